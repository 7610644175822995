// Package rackcache runs the caches whose configurations vmcastfs config mirror prints, as
// printed, for tests and benchmarks.
package rackcache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"vmcastfs/cache/origin"
)

// Programs are what each kind of cache runs.
var Programs = map[string]string{"nginx": "nginx", "trafficserver": "traffic_server"}

// A Cache is one that runs.
type Cache struct {
	URL  string
	cmd  *exec.Cmd
	logs string
	port *os.File // keeps it for this cache
}

// Find returns the program of a kind. Those of Debian are where only root looks.
func Find(kind string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		if path := filepath.Join(dir, Programs[kind]); exec.Command("test", "-x", path).Run() == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", Programs[kind])
}

// Start runs a cache of a kind in dir, configured by the program binary with further flags, for
// origins. It listens on ip, on a port of its own, and waits until it answers.
func Start(ctx context.Context, binary, kind, dir, ip string, flags []string, origins ...string) (*Cache, error) {
	program, err := Find(kind)
	if err != nil {
		return nil, err
	}
	address, port, err := origin.KeepPort(ip)
	if err != nil {
		return nil, err
	}
	c := &Cache{URL: "http://" + address, logs: filepath.Join(dir, "log"), port: port}
	args := append([]string{"config", "mirror", "--listen", address, "--dir", filepath.Join(dir, "cache"), "--size", "1G"}, flags...)
	text, err := exec.CommandContext(ctx, binary, append(append(args, kind), origins...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("config mirror: %w", err)
	}
	for _, name := range []string{"log", "run", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	start := map[string]func(program, dir string, text []byte) (*exec.Cmd, error){"nginx": nginx, "trafficserver": trafficServer}[kind]
	if c.cmd, err = start(program, dir, text); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(c.logs, "output"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			if kind != "trafficserver" || c.logged("cache enabled") { // which listens before, and then stores nothing
				return c, nil
			}
			err = errors.New("it has no cache yet")
		}
		if tries > 600 || ctx.Err() != nil {
			text, _ := exec.Command("sh", "-c", "tail -n 20 "+c.logs+"/*").Output()
			c.Stop()
			return nil, fmt.Errorf("%s does not answer: %w\n%s", kind, err, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// logged says whether a text is in the logs.
func (c *Cache) logged(text string) bool {
	paths, _ := filepath.Glob(filepath.Join(c.logs, "*"))
	return slices.ContainsFunc(paths, func(path string) bool {
		log, _ := os.ReadFile(path)
		return strings.Contains(string(log), text)
	})
}

// nginx runs one with a main file that includes the printed one, as Debian's does.
func nginx(program, dir string, text []byte) (*exec.Cmd, error) {
	main := fmt.Sprintf("daemon off;\nworker_processes 1;\npid %s/run/pid;\nerror_log %[1]s/log/error.log;\nevents { worker_connections 768; }\nhttp {\n  include %[1]s/etc/vmcast.conf;\n", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		main += fmt.Sprintf("  %s_temp_path %s/run/%[1]s;\n", kind, dir)
	}
	if os.Geteuid() == 0 {
		main = "user root;\n" + main
	}
	return exec.Command(program, "-p", dir, "-c", filepath.Join(dir, "etc/nginx.conf")), errors.Join(
		os.WriteFile(filepath.Join(dir, "etc/vmcast.conf"), text, 0o644),
		os.WriteFile(filepath.Join(dir, "etc/nginx.conf"), []byte(main+"}\n"), 0o644))
}

// trafficServer runs one in a tree of its own, into which the printed script writes.
func trafficServer(program, dir string, text []byte) (*exec.Cmd, error) {
	etc, cache := filepath.Join(dir, "etc"), filepath.Join(dir, "cache")
	root := fmt.Sprintf("prefix: %s\nexec_prefix: %[1]s\nbindir: /usr/bin\nsbindir: /usr/sbin\nsysconfdir: %s\ndatadir: %[1]s/data\nlibdir: /usr/lib/trafficserver\nlibexecdir: /usr/lib/trafficserver/modules\nlocalstatedir: %[1]s/run\nruntimedir: %[1]s/run\nlogdir: %[1]s/log\ncachedir: %s\n",
		dir, etc, cache)
	if err := errors.Join(os.MkdirAll(cache, 0o755), os.MkdirAll(filepath.Join(dir, "data"), 0o755),
		os.WriteFile(filepath.Join(dir, "runroot.yaml"), []byte(root), 0o644)); err != nil {
		return nil, err
	}
	script := exec.Command("sh", "-s", etc)
	script.Stdin = strings.NewReader(string(text))
	if out, err := script.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	// What the package of Debian has besides, and whom the server becomes.
	for _, name := range []string{"plugin.config", "ssl_multicert.config", "parent.config", "cache.config", "hosting.config", "volume.config", "splitdns.config", "socks.config", "strategies.yaml", "sni.yaml", "logging.yaml"} {
		text, _ := os.ReadFile(filepath.Join("/etc/trafficserver", name))
		if err := os.WriteFile(filepath.Join(etc, name), text, 0o644); err != nil {
			return nil, err
		}
	}
	if os.Geteuid() == 0 { // it becomes another user
		if out, err := exec.Command("sh", "-c", "chown -R trafficserver: "+cache+" "+dir+"/run "+dir+"/log && chmod 755 "+dir).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
	}
	return exec.Command(program, "--run-root="+filepath.Join(dir, "runroot.yaml")), nil
}

// Signal sends a signal to the cache and all its processes.
func (c *Cache) Signal(s syscall.Signal) { _ = syscall.Kill(-c.cmd.Process.Pid, s) }

// Stop ends it.
func (c *Cache) Stop() {
	c.Signal(syscall.SIGCONT)
	c.Signal(syscall.SIGKILL)
	_ = c.cmd.Wait()
	c.port.Close()
}
