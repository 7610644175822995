package catalogue

import (
	"bytes"
	"encoding/json"
)

// reader takes a JSON document apart, and counts what is in it.
type reader struct {
	dec  *json.Decoder
	left int // values that it may still have
}

func newReader(doc []byte) *reader {
	return &reader{json.NewDecoder(bytes.NewReader(doc)), 64 * maxItems}
}

// object reads an object. fn reads the value of each key. No key may come twice.
func (r *reader) object(what string, fn func(key string) error) error {
	tok, err := r.dec.Token()
	if err != nil || tok != json.Delim('{') {
		return bad("%s is no JSON object", what)
	}
	seen := make(map[string]bool)
	for r.dec.More() {
		tok, err := r.dec.Token()
		key, ok := tok.(string)
		switch {
		case err != nil || !ok:
			return bad("%s is no JSON object", what)
		case seen[key]:
			return bad("%s has %s twice", what, quoted(key))
		case len(key) > maxName:
			return bad("%s has a name of %d bytes", what, len(key))
		}
		if r.left--; r.left < 0 || len(seen) > maxItems {
			return bad("it has too much in it")
		}
		seen[key] = true
		if err := fn(key); err != nil {
			return err
		}
	}
	if _, err := r.dec.Token(); err != nil {
		return bad("%s ends too early", what)
	}
	return nil
}

// end refuses anything behind the document.
func (r *reader) end() error {
	if _, err := r.dec.Token(); err == nil {
		return bad("something follows its end")
	}
	return nil
}

func (r *reader) skip() error {
	var any json.RawMessage
	return r.value("a value", &any)
}

// text reads a string into s. Where a catalogue has something else it is as none.
func (r *reader) text(s *string) error {
	var raw json.RawMessage
	if err := r.value("a value", &raw); err != nil {
		return err
	}
	if len(raw) > maxLine {
		return bad("a text of %d bytes", len(raw))
	}
	_ = json.Unmarshal(raw, s)
	return nil
}

func (r *reader) value(what string, v any) error {
	if err := r.dec.Decode(v); err != nil {
		return bad("%s: %s", what, quoted(err.Error()))
	}
	return nil
}
