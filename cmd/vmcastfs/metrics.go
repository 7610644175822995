package main

import (
	"maps"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"vmcastfs/cache/meter"
	"vmcastfs/cache/remote"
	"vmcastfs/fs"
	"vmcastfs/fs/catalog"
)

// collector makes metrics of the counters at the time of a scrape. No label
// names a release, a file or an address: those would be without number. The label
// feed is the directory of the mount.
type collector struct {
	status func() catalog.Status
	mount  func() fs.Stats
}

// metric is one of a name, with a value for its label if it has one.
type metric struct{ name, help, label, value string }

// desc is the metric, and the value of its label.
func (m metric) desc() (desc *prometheus.Desc, values []string) {
	var labels []string
	if m.label != "" {
		labels, values = []string{m.label}, []string{m.value}
	}
	return prometheus.NewDesc("vmcastfs_"+m.name, m.help, labels, nil), values
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	metrics := func(kind prometheus.ValueType) func(float64, metric) {
		return func(v float64, m metric) {
			desc, values := m.desc()
			ch <- prometheus.MustNewConstMetric(desc, kind, v, values...)
		}
	}
	counter, gauge := metrics(prometheus.CounterValue), metrics(prometheus.GaugeValue)
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

	mirrors, lies, mirrored := map[string]int{"works": 0, "paused": 0, "accused": 0, "banned": 0}, 0, int64(0)
	for _, m := range st.Mirrors {
		mirrors[m.State]++
		lies, mirrored = lies+m.Lies, mirrored+m.Bytes
	}
	for state, n := range mirrors {
		gauge(float64(n), metric{"mirror_state", "Mirrors by state.", "state", state})
	}
	counter(float64(lies), metric{name: "mirror_lies_total", help: "How often mirrors gave what they were not asked for."})
	counter(float64(mirrored), metric{name: "mirror_bytes_total", help: "Bytes received from mirrors; they are among those of upstream_bytes_total."})

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
	desc, values := m.desc()
	return prometheus.MustNewConstHistogram(desc, total, float64(h.Nanos)/1e9, buckets, values...)
}
