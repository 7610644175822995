package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// logFile is the log of a mount: log=FILE, else stderr. Once a process has
// gone to the background, stderr belongs to whoever called mount, so unless it
// is the journal the log moves to syslog.
//
// mu guards out.
type logFile struct {
	*slog.Logger
	file    *os.File // of log=FILE, or nil
	journal bool     // stderr is the journal, which reads priorities

	mu  sync.Mutex
	out io.Writer
}

// In a background process the one who waits at the terminal gets one sentence
// if it fails, and the log only if he asked for it.
func (e *env) openLog(o options, verbose, background bool) (*logFile, error) {
	l := &logFile{out: e.stderr}
	if o.Log != "" {
		f, err := openLogFile(o.Log)
		if err != nil {
			return nil, withCode(exitSystem, fmt.Errorf("log: %w", err))
		}
		l.out, l.file = f, f
	} else {
		l.journal, _ = journal.StderrIsJournalStream()
		if background && !verbose && !o.Debug && !l.journal {
			l.out = systemLog()
		}
	}
	level := slog.LevelInfo
	switch {
	case o.Debug || verbose:
		level = slog.LevelDebug
	case l.file == nil && isTerminal(os.Stderr):
		level = slog.LevelWarn // somebody is looking: only what matters
	}
	l.Logger = slog.New(newRepeatHandler(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: l.dropTime})))
	return l, nil
}

// openLogFile opens or makes the file of log=. Somebody else may have put something
// in its place: a link would have us write elsewhere, a FIFO would have us wait.
func openLogFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0o640)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link; name the file itself", name)
	} else if errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%s is no file that a log can be written to", name)
	} else if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil {
		sys := st.Sys().(*syscall.Stat_t)
		switch mode := st.Mode(); {
		case mode&os.ModeCharDevice != 0:
			return f, nil // /dev/null, a terminal
		case !mode.IsRegular():
			err = fmt.Errorf("%s is no file that a log can be written to", name)
		case sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
			err = fmt.Errorf("%s belongs to another user", name)
		case sys.Nlink != 1:
			err = fmt.Errorf("%s has another name, too: it is a hard link", name)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// dropTime leaves the time to the journal and syslog, which have their own.
func (l *logFile) dropTime(groups []string, a slog.Attr) slog.Attr {
	if l.file == nil && len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// Write gets one line of the text handler.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := scrub(line)
	var err error
	switch out, ok := l.out.(*syslog.Writer); {
	case ok:
		err = toSyslog(out, text)
	case l.journal:
		_, err = l.out.Write(append([]byte(priority(text)), text...))
	default:
		_, err = l.out.Write(text)
	}
	if err != nil {
		return 0, err
	}
	return len(line), nil
}

// priority is what sd-daemon(3) has before a line of that level.
func priority(line []byte) string {
	switch {
	case bytes.HasPrefix(line, []byte("level=ERROR")):
		return "<3>"
	case bytes.HasPrefix(line, []byte("level=WARN")):
		return "<4>"
	case bytes.HasPrefix(line, []byte("level=INFO")):
		return "<6>"
	}
	return "<7>"
}

func toSyslog(w *syslog.Writer, line []byte) error {
	switch priority(line) {
	case "<3>":
		return w.Err(string(line))
	case "<4>":
		return w.Warning(string(line))
	case "<6>":
		return w.Info(string(line))
	}
	return w.Debug(string(line))
}

// detach gives the terminal back to whoever called mount: the log goes on in
// syslog, unless it has a file or stderr is the journal.
func (l *logFile) detach() {
	if l.journal {
		return
	}
	if l.file == nil {
		l.mu.Lock()
		if _, ok := l.out.(*syslog.Writer); !ok {
			l.out = systemLog()
		}
		l.mu.Unlock()
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer null.Close()
	for fd := range 3 {
		_ = unix.Dup3(int(null.Fd()), fd, 0)
	}
}

// systemLog is syslog, or nothing where there is none.
func systemLog() io.Writer {
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "vmcastfs"); err == nil {
		return w
	}
	return io.Discard
}

func (l *logFile) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// quietLog is for commands whose output is the answer: only what went wrong.
func (e *env) quietLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
