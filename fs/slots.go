package fs

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
)

// mostSlots is the number of background requests that a mount asks the kernel for.
// Direct reads and read-ahead are such requests. The kernel keeps further ones of all
// images in one queue, behind those that wait.
const mostSlots = 16384

// errCrowded is the error of a read that may not wait.
var errCrowded = errors.New("too many reads of this image wait already")

// slots shares the kernel's background requests between the images whose reads wait.
// An image may hold as many as are free: one image half of them, two images a third
// each, and so on. So some are always free, and reads of cached blocks never queue
// behind a server that does not answer. A read beyond the share fails at once.
type slots struct {
	mu    sync.Mutex // a leaf; guards what follows, and the waiting of each slotUser
	total int
	used  int
}

// A slotUser is an image whose reads wait.
type slotUser struct {
	waiting int // guarded by slots.mu
}

// take takes a slot for a read that is going to wait, and tells whether there was one.
func (s *slots) take(u *slotUser) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.waiting >= s.total-s.used {
		return false
	}
	u.waiting++
	s.used++
	return true
}

// give gives back what take took.
func (s *slots) give(u *slotUser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.waiting--
	s.used--
}

// grantedSlots is how many background requests the kernel grants us. For a user
// without privileges its limit depends on the memory of the machine
// (process_init_limits in fs/fuse/inode.c of Linux).
func grantedSlots(privileged bool) int {
	if privileged {
		return mostSlots
	}
	text, err := os.ReadFile("/sys/module/fuse/parameters/max_user_bgreq")
	limit, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || err2 != nil || limit <= 0 {
		limit = 256
	}
	return min(limit, mostSlots)
}
