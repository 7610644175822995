package main

import (
	"bufio"
	"bytes"
	"context"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// heedMemoryLimit keeps the process within the memory of its cgroup, and returns
// that limit in bytes; 0: there is none. The runtime then collects garbage before
// the kernel kills. GOMEMLIMIT in the environment stays the operator's, and is a
// limit as well.
func heedMemoryLimit() int64 {
	limit := cgroupMemory("/")
	if os.Getenv("GOMEMLIMIT") != "" {
		if own := debug.SetMemoryLimit(-1); limit == 0 || own < limit {
			return own
		}
	} else if limit > 0 {
		debug.SetMemoryLimit(limit - limit/10)
	}
	return limit
}

// garbageRoom is how much garbage there may be, or leastGarbage percent of what lives if
// that is more.
const (
	garbageRoom  = 8 << 20
	leastGarbage = 15
)

// besideTier is what may live beside the memory tier before that gets smaller.
const besideTier = 12 << 20

// boundGarbage has garbage collected more often where much lives: the runtime would let
// it grow to as much as that. Where little lives, nothing changes. It tells yield after
// each collection how much lives. GOGC in the environment stays the operator's.
func boundGarbage(yield func(live, beside int64)) {
	if os.Getenv("GOGC") != "" {
		return
	}
	var turn func(percent int)
	turn = func(percent int) { // after each collection
		now := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(now)
		live := now[0].Value.Uint64()
		yield(int64(live), besideTier)
		want := gcPercent(live)
		if want > percent+2 || want < percent-2 {
			debug.SetGCPercent(want)
			percent = want
		}
		runtime.AddCleanup(new([2]*byte), turn, percent)
	}
	turn(100)
}

// gcPercent is how much garbage there may be beside what lives.
func gcPercent(live uint64) int {
	return int(min(100, max(leastGarbage, 100*garbageRoom/max(live, 1))))
}

// giveMemoryBack has memory given back to the system after the process has been busy,
// until ctx ends. The runtime would keep for minutes what nobody uses. It calls rest
// now and then, which reports whether there is more to give.
func giveMemoryBack(ctx context.Context, rest func() bool) {
	go func() {
		tick := time.NewTicker(quietTime)
		defer tick.Stop()
		before, busy := uint64(0), true
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
			metrics.Read(now)
			allocated := now[0].Value.Uint64()
			quiet := allocated-before < quietBytes
			rested := n%restTicks == 0 && rest()
			if quiet && busy || rested {
				runtime.GC() // pools are empty after two of them
				debug.FreeOSMemory()
			}
			before, busy = allocated, !quiet
		}
	}()
}

// A process is quiet that allocates less than quietBytes in quietTime.
const (
	quietTime  = 5 * time.Second
	quietBytes = 1 << 20
	restTicks  = 4 // of quietTime are between two calls of rest
)

// ofMemory is n bytes, or less if that is more than share percent of the limit.
func ofMemory(n, limit, share int64) int64 {
	if limit <= 0 {
		return n
	}
	return min(n, limit/100*share)
}

// cgroupMemory is the smallest limit of this process's cgroup and of those above
// it, below root; 0: there is none. Of cgroup v2 these are memory.max and
// memory.high, of v1 memory.limit_in_bytes (cgroups(7)).
func cgroupMemory(root string) int64 {
	text, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		// ID:CONTROLLERS:PATH, where v2 has no controllers.
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch group := path.Clean("/" + fields[2]); {
		case fields[1] == "":
			least = min(least, cgroupLimit(root, "sys/fs/cgroup", group, "memory.max", "memory.high"))
		case strings.Contains(","+fields[1]+",", ",memory,"):
			least = min(least, cgroupLimit(root, "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
		}
	}
	const none = 1 << 60 // v1 shows what is no limit as a number near 2^63
	if least >= none {
		return 0
	}
	return least
}

// cgroupLimit is the smallest number in the named files of a group and those above it.
func cgroupLimit(root, hierarchy, group string, names ...string) int64 {
	least := int64(math.MaxInt64)
	for {
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(root, hierarchy, group, name))
			if err != nil {
				continue
			}
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
				least = min(least, n)
			}
		}
		if group == "/" {
			return least
		}
		group = path.Dir(group)
	}
}
