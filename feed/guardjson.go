package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// jsonItem is what is read of an item, and what the parser is given of it. A
// field of another type than it should have is left out.
type jsonItem struct {
	ID          string           `json:"id,omitempty"`
	Title       string           `json:"title,omitempty"`
	HTML        string           `json:"content_html,omitempty"`
	Text        string           `json:"content_text,omitempty"`
	Summary     string           `json:"summary,omitempty"`
	Published   string           `json:"date_published,omitempty"`
	Modified    string           `json:"date_modified,omitempty"`
	Attachments []jsonAttachment `json:"attachments,omitempty"`

	cost int   // values that the item has in the document
	date int64 // when it was published, in seconds since 1970; 0: unknown
}

type jsonAttachment struct {
	URL  string          `json:"url,omitempty"`
	Type string          `json:"mime_type,omitempty"`
	Size json.RawMessage `json:"size_in_bytes,omitempty"`
}

// jsonVersion is what a feed may say that it is, the address of the
// specification or its bare number.
var jsonVersion = regexp.MustCompile(`jsonfeed\.org|^1(\.[0-9]+)*$`)

// guardJSON checks a JSON Feed and returns one that holds the title and the
// items that are worth having, nothing else. What is odd costs itself: a field,
// else an item. encoding/json refuses more than 10 000 levels.
func guardJSON(doc []byte) (out []byte, warnings []string, err error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	fail := func(err error) ([]byte, []string, error) {
		return nil, nil, &syntaxError{dec.InputOffset(), err}
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, ErrNotFeed
	}
	var (
		version, title string
		items          []jsonItem
		listed, large  = 0, 0
		seen           = false
	)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return fail(err)
		}
		name, _ := key.(string)
		if strings.EqualFold(name, "items") {
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
				var raw json.RawMessage
				if err := dec.Decode(&raw); err != nil {
					return fail(err)
				}
				if len(raw) > maxItemBytes || jsonCost(raw) > maxItemCost {
					large++
				} else {
					items = append(items, readJSONItem(raw))
				}
			}
			if _, err := dec.Token(); err != nil {
				return fail(err)
			}
			continue
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return fail(err)
		}
		switch {
		case len(v) > maxTitle*6:
		case strings.EqualFold(name, "version"):
			version = jsonText(v)
		case strings.EqualFold(name, "title"):
			title = plainTitle(jsonText(v))
		}
	}
	if _, err := dec.Token(); err != nil {
		return fail(err)
	}
	if !jsonVersion.MatchString(strings.TrimSpace(version)) || !seen {
		return nil, nil, fmt.Errorf("%w: this JSON has no version or items of a JSON Feed", ErrNotFeed)
	}
	if large > 0 {
		warnings = append(warnings, fmt.Sprintf("%d items are left out: too large", large))
	}
	var shown []jsonItem
	for n, show := range newest(items, func(i jsonItem) int { return i.cost }, func(i jsonItem) int64 { return i.date }) {
		if show {
			shown = append(shown, items[n])
		}
	}
	warnings = append(warnings, tooMany(len(items), len(shown))...)
	out, err = json.Marshal(map[string]any{"version": "https://jsonfeed.org/version/1.1", "title": title, "items": shown})
	return out, warnings, err
}

// readJSONItem reads an item. One that is no object offers nothing.
func readJSONItem(raw json.RawMessage) (item jsonItem) {
	var f struct {
		ID, Title, Summary, Attachments json.RawMessage
		HTML                            json.RawMessage `json:"content_html"`
		Text                            json.RawMessage `json:"content_text"`
		Published                       json.RawMessage `json:"date_published"`
		Modified                        json.RawMessage `json:"date_modified"`
	}
	if json.Unmarshal(raw, &f) != nil {
		return jsonItem{cost: jsonCost(raw)}
	}
	item = jsonItem{
		ID: opaque(jsonText(f.ID)), Title: plainTitle(jsonText(f.Title)), Summary: jsonText(f.Summary), HTML: jsonText(f.HTML), Text: jsonText(f.Text),
		Published: jsonText(f.Published), Modified: jsonText(f.Modified), cost: jsonCost(raw),
	}
	if t, ok := parseDate(item.Published); ok {
		item.date = t.Unix()
	}
	var list []json.RawMessage
	if json.Unmarshal(f.Attachments, &list) != nil {
		list = []json.RawMessage{f.Attachments} // one that is in no array
	}
	for _, a := range list[:min(len(list), maxEnclosures)] {
		var e struct {
			URL  json.RawMessage
			Type json.RawMessage `json:"mime_type"`
			Size json.RawMessage `json:"size_in_bytes"`
			Ours json.RawMessage `json:"_vmcast"`
		}
		var ours struct{ SHA256 json.RawMessage }
		if json.Unmarshal(a, &e) != nil || jsonText(e.URL) == "" {
			continue
		}
		_ = json.Unmarshal(e.Ours, &ours) // what is odd is left out
		kept := jsonAttachment{URL: jsonText(e.URL), Type: withDigest(jsonText(e.Type), jsonText(ours.SHA256))}
		if jsonText(e.Size) != "" {
			kept.Size = e.Size
		}
		item.Attachments = append(item.Attachments, kept)
	}
	return item
}

// jsonText is a text, or a number as it is written; "" for all else.
func jsonText(raw json.RawMessage) string {
	var s string
	var n json.Number
	switch {
	case len(raw) == 0 || raw[0] == 'n':
	case json.Unmarshal(raw, &s) == nil:
		return s
	case raw[0] != '"' && json.Unmarshal(raw, &n) == nil:
		return n.String()
	}
	return ""
}

// jsonCost bounds the number of values in raw from above.
func jsonCost(raw []byte) int {
	return 1 + bytes.Count(raw, []byte(",")) + bytes.Count(raw, []byte("[")) + bytes.Count(raw, []byte("{"))
}
