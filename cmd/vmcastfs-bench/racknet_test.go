package bench

import (
	"fmt"
	"os/exec"
	"strings"
)

// rackNet is a bridge with hosts that are network namespaces. The origin and the mirror are at
// its own address.
type rackNet struct{ hosts []string }

const (
	rackBridge  = "vmrack0"
	rackAddress = "10.213.77.1"
	rackHosts   = 8
)

func newRackNet() (*rackNet, error) {
	r := &rackNet{}
	r.close() // of a run that was killed
	script := fmt.Sprintf("set -e\nip link add %[1]s type bridge\nip addr add %[2]s/24 dev %[1]s\nip link set %[1]s up\n", rackBridge, rackAddress)
	for i := range rackHosts {
		script += fmt.Sprintf("ip netns add vmrack%[1]d\nip link add vmrackv%[1]d type veth peer name eth0 netns vmrack%[1]d\nip link set vmrackv%[1]d master %[2]s up\n"+
			"ip -n vmrack%[1]d addr add 10.213.77.%[3]d/24 dev eth0\nip -n vmrack%[1]d link set eth0 up\nip -n vmrack%[1]d link set lo up\n", i, rackBridge, 10+i)
		r.hosts = append(r.hosts, fmt.Sprint("vmrack", i))
	}
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		r.close()
		return nil, fmt.Errorf("make hosts as network namespaces, which only root can: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return r, nil
}

// close removes all of it.
func (r *rackNet) close() {
	if r == nil {
		return
	}
	script := "ip link del " + rackBridge + "\n"
	for i := range rackHosts {
		script += fmt.Sprintf("ip netns del vmrack%d\n", i)
	}
	_ = exec.Command("sh", "-c", script).Run()
}

// in has a command run on a host.
func (r *rackNet) in(host int, command ...string) []string {
	if r == nil || host < 0 {
		return command
	}
	return append([]string{"nsenter", "--net=/run/netns/" + r.hosts[host]}, command...)
}
