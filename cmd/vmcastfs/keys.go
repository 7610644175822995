package main

import (
	"context"
	"log/slog"
	"time"

	"vmcastfs/xvm"
)

// keysEvery is how often the files of the keyring are looked at.
const keysEvery = 5 * time.Second

// keyWatch hands out the keys of a keyring anew when its files change. It is for
// one goroutine. set may be called at any time.
type keyWatch struct {
	path     string
	required bool // signatures are, by whoever has a key here
	none     bool // there were no keys yet: nothing is asked for until there are
	set      func(xvm.Policy)
	log      *slog.Logger

	stamp string // of the files that the keys in use are from
	bad   string // of files that could not be read
}

// run looks at the files until ctx ends, and at once whenever now gets a value.
func (w *keyWatch) run(ctx context.Context, now <-chan struct{}) {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-now:
		}
		w.look()
	}
}

// look reads the keys if their files have changed. Files that cannot be read, or one
// of several, may be in the middle of being written, so that it takes two looks to
// believe it: from then on their keys are not trusted.
func (w *keyWatch) look() {
	stamp := xvm.KeyringStamp(w.path)
	if stamp == w.stamp {
		w.bad = ""
		return
	}
	if w.none && !holdsKeys(w.path) {
		w.stamp = stamp
		return
	}
	keyring, err := xvm.LoadKeyring(w.path)
	switch {
	case w.bad != stamp && (err != nil || len(keyring.Warnings()) > 0):
		w.bad = stamp
		return
	case err == nil:
		for _, text := range keyring.Warnings() {
			w.log.Warn("keyring: " + text)
		}
		text := "the keys have changed; releases are judged anew"
		if w.none {
			text = "keys have come: signatures are required from now on"
		}
		w.log.Warn(text, "keyring", w.path, "keys", keyring.Len())
		w.none = false
	case w.none:
		w.log.Error("the keys that have come cannot be used; signatures are still not checked", "keyring", w.path, "err", err)
		w.stamp, w.bad = stamp, ""
		return
	default:
		w.log.Error("the keys cannot be read any more; until they can, no key is trusted", "keyring", w.path, "err", err)
		keyring = new(xvm.Keyring)
	}
	w.stamp, w.bad = stamp, ""
	w.set(xvm.Policy{Keyring: keyring, Required: w.required})
}
