package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// guardJSON checks a JSON Feed and returns one that holds the version, the
// title and the items that are worth having, nothing else. encoding/json itself
// refuses more than 10 000 levels.
func guardJSON(doc []byte) (out []byte, warnings []string, err error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	fail := func(err error) ([]byte, []string, error) {
		return nil, nil, &SyntaxError{dec.InputOffset(), err}
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, ErrNotFeed
	}
	var (
		version, title json.RawMessage
		items          []json.RawMessage
		listed, large  = 0, 0
		seen           = false
	)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return fail(err)
		}
		name, _ := key.(string)
		// The parser matches keys without regard to case, so must we.
		switch {
		case strings.EqualFold(name, "items"):
			if seen {
				return fail(errors.New("items occurs twice"))
			}
			seen = true
			if t, err := dec.Token(); err != nil || t != json.Delim('[') {
				return fail(errors.New("items is not an array"))
			}
			for dec.More() {
				if listed++; listed > maxListed {
					return nil, nil, errListed
				}
				var item json.RawMessage
				if err := dec.Decode(&item); err != nil {
					return fail(err)
				}
				if len(item) > maxItemBytes || jsonCost(item) > maxItemCost {
					large++
				} else if item[0] == '{' { // the parser cannot stand a null
					items = append(items, item)
				}
			}
			if _, err := dec.Token(); err != nil {
				return fail(err)
			}
		default:
			var v json.RawMessage
			if err := dec.Decode(&v); err != nil {
				return fail(err)
			}
			isText := len(v) > 1 && v[0] == '"' && len(v) < maxTitle*6
			if isText && strings.EqualFold(name, "version") {
				version = v
			} else if isText && strings.EqualFold(name, "title") {
				title = v
			}
		}
	}
	if _, err := dec.Token(); err != nil {
		return fail(err)
	}
	if !bytes.Contains(version, []byte("jsonfeed.org")) || !seen {
		return nil, nil, fmt.Errorf("%w: this JSON has no version or items of a JSON Feed", ErrNotFeed)
	}
	if large > 0 {
		warnings = append(warnings, fmt.Sprintf("%d items are left out: too large", large))
	}

	if old := overflow(items, func(i json.RawMessage) int { return jsonCost(i) }, jsonDate); len(old) > 0 {
		warnings = append(warnings, fmt.Sprintf("feed has %d items: only the newest %d are shown", len(items), len(items)-len(old)))
		for _, n := range old {
			items[n] = nil
		}
	}
	if title == nil {
		title = json.RawMessage(`""`)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"version":%s,"title":%s,"items":[`, version, title)
	sep := ""
	for _, i := range items {
		if i != nil {
			b.WriteString(sep)
			b.Write(i)
			sep = ","
		}
	}
	b.WriteString("]}")
	return b.Bytes(), warnings, nil
}

// jsonCost bounds the number of values in raw from above.
func jsonCost(raw []byte) int {
	return 1 + bytes.Count(raw, []byte(",")) + bytes.Count(raw, []byte("[")) + bytes.Count(raw, []byte("{"))
}

func jsonDate(item json.RawMessage) time.Time {
	var d struct {
		Date string `json:"date_published"`
	}
	if json.Unmarshal(item, &d) != nil {
		return time.Time{}
	}
	t, _ := ParseDate(d.Date)
	return t
}
