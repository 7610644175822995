package fs

import (
	"bytes"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processOf finds the process of a thread, 0 if it is hidden from us or the
// kernel's own, and tells whether the thread exists.
func processOf(thread int) (process int, exists bool) {
	if thread <= 0 {
		return 0, true
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(thread), "status"))
	if err != nil {
		return 0, !errors.Is(unix.Kill(thread, 0), syscall.ESRCH)
	}
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("Tgid:")); ok {
			process, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return process, true
}

// deaths remembers for a moment which processes are dying, since many requests of
// one process may ask: looking costs a walk over its threads.
type deaths struct {
	mu   sync.Mutex // a leaf
	seen map[int]death
}

type death struct {
	at    time.Time
	dying bool
}

// dying is the function dying, asked at most once in half a killPoll for each process.
func (d *deaths) dying(process int) bool {
	const most = 1024 // processes to remember
	d.mu.Lock()
	defer d.mu.Unlock()
	last, ok := d.seen[process]
	if ok && time.Since(last.at) < killPoll/2 {
		return last.dying
	}
	if d.seen == nil || len(d.seen) >= most {
		d.seen = make(map[int]death)
	}
	last = death{time.Now(), dying(process)}
	d.seen[process] = last
	return last.dying
}

// dying tells whether a process is gone or none of its threads will run its code
// again. A signal that kills a process leaves SIGKILL pending on each thread
// until the thread begins to exit. That may take as long as our answer.
func dying(process int) bool {
	tasks := filepath.Join("/proc", strconv.Itoa(process), "task")
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return gone(err)
	}
	for _, t := range threads {
		stat, err := os.ReadFile(filepath.Join(tasks, t.Name(), "stat"))
		if err != nil {
			if gone(err) {
				continue
			}
			return false
		}
		if !threadDying(stat) {
			return false
		}
	}
	return true
}

func gone(err error) bool {
	return errors.Is(err, iofs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// threadDying reads a line of /proc/PID/task/TID/stat, see proc_pid_stat(5).
func threadDying(stat []byte) bool {
	const (
		flagsField, signalField = 9, 31               // counted from 1
		exiting                 = 0x4 | 0x200 | 0x400 // PF_EXITING, PF_DUMPCORE, PF_SIGNALED
		sigkill                 = 1 << (syscall.SIGKILL - 1)
	)
	// The name, the second field, may hold anything, also parentheses.
	rest := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(rest) <= signalField-3 {
		return false
	}
	flags, err1 := strconv.ParseUint(string(rest[flagsField-3]), 10, 64)
	pending, err2 := strconv.ParseUint(string(rest[signalField-3]), 10, 64)
	return err1 == nil && err2 == nil && (flags&exiting != 0 || pending&sigkill != 0)
}
