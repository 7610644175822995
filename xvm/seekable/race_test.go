//go:build race

package seekable

// scale divides the work of tests that say the same of less data: the race detector makes decoding ten times slower.
const scale = 12
