//go:build !race

package seekable

const scale = 1
