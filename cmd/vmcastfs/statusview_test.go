package main

import (
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog"
)

// TestCacheWasFull: status tells a cache that is full from one that was.
func TestCacheWasFull(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		ago      time.Duration
		refusing bool
		want     string
	}{
		{time.Second, true, ", FULL: 3 blocks served uncached, the last 1s ago"},
		{time.Second, false, ", FULL: 3 blocks served uncached, the last 1s ago"},
		{time.Hour, true, ", FULL: 3 blocks served uncached, the last 1h00m ago"},
		{time.Hour, false, ", was full: 3 blocks served uncached, the last 1h00m ago, cached again since"},
	} {
		at := now.Add(-c.ago)
		line := cacheLine(&catalog.Status{Cache: store.Stats{Full: 3, FullAt: &at, Refusing: c.refusing}}, now)
		if !strings.HasSuffix(line, c.want) {
			t.Errorf("%s ago, refusing %v: %s", c.ago, c.refusing, line)
		}
	}
}
