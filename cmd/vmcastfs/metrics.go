package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vmcastfs/cache/meter"
	"vmcastfs/cache/remote"
	"vmcastfs/fs"
	"vmcastfs/fs/catalog"
)

// metricsAddress checks the value of metrics=: unix:/path, or a port of a
// loopback address. The metrics name no release, but they are nobody else's
// business.
func metricsAddress(v string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(v, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return "", "", errors.New("the path of a unix socket must be absolute: unix:/path")
		}
		return "unix", path, nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", "", errors.New("must be unix:/path or 127.0.0.1:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", errors.New("must name a port from 1 to 65535")
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", "", fmt.Errorf("%q is no loopback address: metrics are for this machine alone, use unix:/path or 127.0.0.1:port", host)
	}
	return "tcp", v, nil
}

// metricsServer answers GET /metrics.
type metricsServer struct {
	listener net.Listener
	path     string // of a unix socket
	http     *http.Server
	once     sync.Once // for close
}

// leaveTime is how long a mount that has just been detached may take to leave its
// address to the next.
const leaveTime = 2 * time.Second

// listenMetrics takes the address before the mount is made, so that an address
// that is taken is an error of the mount.
func listenMetrics(option string) (*metricsServer, error) {
	network, address, err := metricsAddress(option)
	if err != nil {
		return nil, usagef("option metrics=%s: %w", option, err)
	}
	m := &metricsServer{http: &http.Server{
		ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}}
	for end := time.Now().Add(leaveTime); ; time.Sleep(50 * time.Millisecond) {
		if network == "tcp" {
			m.listener, err = net.Listen(network, address)
		} else {
			m.path = address
			m.listener, err = listenUnix(address)
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return nil, withCode(exitSystem, fmt.Errorf("metrics: %w", err))
	}
	return m, nil
}

// listenUnix makes a socket of mode 0600. It is bound beside its place and then
// moved there, so that it is never open to others, and replaces what a killed
// process left.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("%s is there and is no socket", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w: each mount needs a socket of its own", path, syscall.EADDRINUSE)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".vmcastfs-") // mode 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bound := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: bound})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(bound, 0o600), os.Rename(bound, path)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// serve answers for the mount on dir until close.
func (m *metricsServer) serve(dir string, status func() catalog.Status, mount func() fs.Stats, log *slog.Logger) {
	registry := prometheus.NewRegistry()
	// Who scrapes many mounts tells them apart by the directory: the title of a
	// feed is a stranger's, and its address may not be everybody's business.
	prometheus.WrapRegistererWith(prometheus.Labels{"feed": strings.ToValidUTF8(dir, "?")}, registry).MustRegister(&collector{status, mount})
	registry.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 10 * time.Second}))
	m.http.Handler, m.http.ErrorLog = mux, slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	if err := m.http.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		log.Error("metrics have ended", "err", err)
	}
}

// close may be called again, and without serve.
func (m *metricsServer) close() {
	m.once.Do(func() {
		if m.path != "" {
			_ = os.Remove(m.path)
		}
		m.listener.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if m.http.Shutdown(ctx) != nil {
			m.http.Close()
		}
	})
}

// collector makes metrics of the counters at the time of a scrape. No label
// names a release, a file or an address: those would be without number. The label
// feed is the directory of the mount.
type collector struct {
	status func() catalog.Status
	mount  func() fs.Stats
}

// metric is one of a name, with a value for its label if it has one.
type metric struct{ name, help, label, value string }

func (m metric) desc() *prometheus.Desc {
	var labels []string
	if m.label != "" {
		labels = []string{m.label}
	}
	return prometheus.NewDesc("vmcastfs_"+m.name, m.help, labels, nil)
}

func (m metric) values() []string {
	if m.label == "" {
		return nil
	}
	return []string{m.value}
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(v float64, m metric) {
		ch <- prometheus.MustNewConstMetric(m.desc(), prometheus.CounterValue, v, m.values()...)
	}
	gauge := func(v float64, m metric) {
		ch <- prometheus.MustNewConstMetric(m.desc(), prometheus.GaugeValue, v, m.values()...)
	}
	st := c.status()
	gauge(1, metric{"build_info", "1, with the version of the program.", "version", version()})
	if t := st.Feed.LastSuccess; t != nil {
		gauge(float64(t.UnixMilli())/1000, metric{name: "feed_last_success_timestamp_seconds", help: "When the feed was fetched or confirmed last."})
	}
	for reason, n := range st.Feed.FailedBy {
		counter(float64(n), metric{"feed_refresh_failures_total", "Looks at the feed that failed, by reason.", "reason", reason})
	}
	stale := 0.0
	if st.Feed.Stale {
		stale = 1
	}
	gauge(stale, metric{name: "feed_stale", help: "1 while the last look at the feed failed."})

	// Every state is there from the start, so that an alert can be tested.
	releases := map[string]int{"listed": 0, "indexing": 0, "indexed": 0, "refused": 0, "rejected": 0}
	images := map[string]int{"partial": 0, "verified": 0, "unverified": 0, "corrupt": 0}
	for _, r := range st.Releases {
		releases[r.State]++
		for _, f := range r.Files {
			if f.Image {
				images[f.State]++
			}
		}
	}
	for state, n := range releases {
		gauge(float64(n), metric{"release_state", "Releases by state.", "state", state})
	}
	for state, n := range images {
		gauge(float64(n), metric{"image_state", "Images of indexed releases by state.", "state", state})
	}

	all := sumOrigins(st.Origins)
	for code, n := range all.Answers {
		counter(float64(n), metric{"upstream_requests_total", "Answers of servers by HTTP status.", "code", strconv.Itoa(code)})
	}
	counter(float64(all.Errors), metric{name: "upstream_errors_total", help: "Requests and bodies that failed."})
	ch <- histogram(all.Latency, metric{name: "upstream_request_duration_seconds", help: "Time from a request to the header of its answer."})
	for kind, n := range map[string]int64{"demand": all.Bytes.Demand, "readahead": all.Bytes.ReadAhead, "prefetch": all.Bytes.Background} {
		counter(float64(n), metric{"upstream_bytes_total", "Bytes received, by what they were for.", "kind", kind})
	}
	gauge(float64(all.InFlight), metric{name: "upstream_requests_in_flight", help: "Requests under way."})

	gauge(float64(st.Cache.Bytes), metric{name: "cache_bytes", help: "Disk space that the cache takes."})
	gauge(float64(st.Cache.Limit), metric{name: "cache_limit_bytes", help: "Disk space that it may take; 0: no limit."})
	counter(float64(st.Reads.Hits+st.Reads.PrefetchHits), metric{name: "cache_hits_total", help: "Reads that found every block here, or fetched ahead and on its way."})
	counter(float64(st.Reads.Misses), metric{name: "cache_misses_total", help: "Reads that waited for what had to be fetched on demand."})
	for result, l := range map[string]meter.Histogram{
		"hit": st.Reads.Latency.Hit, "prefetch_hit": st.Reads.Latency.PrefetchHit, "miss": st.Reads.Latency.Miss,
	} {
		ch <- histogram(l, metric{"read_duration_seconds", "Time to answer a read of an image: of a hit, of one for which something had been fetched ahead, of a miss.", "result", result})
	}
	counter(float64(st.Cache.EvictedFiles), metric{name: "cache_evictions_total", help: "Files evicted whole."})
	counter(float64(st.Cache.EvictedBytes), metric{name: "cache_evicted_bytes_total", help: "Disk space freed by eviction."})
	counter(float64(st.Cache.Damaged), metric{name: "cache_corrupt_blocks_total", help: "Cached blocks that were damaged and dropped."})
	counter(float64(st.Cache.Full), metric{name: "cache_full_total", help: "Blocks that the cache had no room for."})
	for kind, n := range map[string]int64{"block": st.Reads.WrongBlocks, "image": int64(images["corrupt"])} { // an image stays corrupt
		counter(float64(n), metric{"verify_failures_total", "What did not match its sum, by kind.", "kind", kind})
	}

	m := c.mount()
	gauge(float64(m.OpenFiles), metric{name: "open_files", help: "Files that are open through the mount."})
	ops := maps.Clone(m.Ops)
	ops["read"], ops["open"] = fs.OpStats{Requests: m.Reads, Errors: m.Errors}, fs.OpStats{Requests: m.Opens}
	ch <- histogram(meter.Histogram{Counts: m.Latency, Nanos: int64(m.ReadTime)}, metric{name: "fuse_read_duration_seconds", help: "Time to answer a read."})
	counter(float64(m.Bytes), metric{name: "fuse_read_bytes_total", help: "Bytes handed to the kernel."})
	for op, n := range ops {
		counter(float64(n.Requests), metric{"fuse_requests_total", "Requests of the kernel, by operation.", "op", op})
		counter(float64(n.Absent), metric{"fuse_absent_total", "Requests for what does not exist, by operation.", "op", op})
		counter(float64(n.Errors), metric{"fuse_errors_total", "Requests that failed, by operation.", "op", op})
	}
	counter(float64(m.Panics), metric{name: "fuse_panics_total", help: "Requests that failed by a fault of the program."})
	gauge(float64(m.Stalled), metric{name: "stalled_reads", help: "Requests that have waited for more than 10 s, now."})
}

// sumOrigins adds up what matters of all origins.
func sumOrigins(origins []remote.OriginStats) remote.OriginStats {
	sum := remote.OriginStats{Answers: map[int]int64{}}
	for _, o := range origins {
		for code, n := range o.Answers {
			sum.Answers[code] += n
		}
		sum.Errors += o.Errors
		sum.InFlight += o.InFlight
		sum.Latency.Merge(&o.Latency)
		sum.Bytes.Demand += o.Bytes.Demand
		sum.Bytes.ReadAhead += o.Bytes.ReadAhead
		sum.Bytes.Background += o.Bytes.Background
	}
	return sum
}

// histogram shows one, whose last bucket is above all bounds.
func histogram(h meter.Histogram, m metric) prometheus.Metric {
	bounds := meter.Bounds()
	buckets := make(map[float64]uint64, len(bounds))
	total := uint64(0)
	for i, n := range h.Counts {
		total += uint64(n)
		if i < len(bounds) {
			buckets[bounds[i]] = total
		}
	}
	return prometheus.MustNewConstHistogram(m.desc(), total, float64(h.Nanos)/1e9, buckets, m.values()...)
}
