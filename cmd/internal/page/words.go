package page

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmcastfs/cache/trace"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/image"
)

// Sentence says in words what a picture shows.
func Sentence(p image.Picture, now time.Time) string {
	t := p.Boot
	if t == nil || len(t.Reads) == 0 {
		return strings.TrimSpace("No boot from this image has been recorded. " + completeness(p))
	}
	var b strings.Builder
	end := bootEnd(t)
	wait := waitedFor(t)
	boot, fetch := "This boot waited", "were fetched"
	if p.Status.Open && now.Sub(t.Begun) < end+maxPause {
		boot, fetch = "This boot has waited so far", "have been fetched"
	}
	if wait < leastWait {
		fmt.Fprintf(&b, "%s for nothing in %s. ", boot, took(end))
	} else {
		fmt.Fprintf(&b, "%s %s of %s. ", boot, took(wait), took(end))
	}
	b.WriteString(fetchedWords(t, end, fetch))
	if t.Full {
		b.WriteString("More was read than is recorded. ")
	}
	b.WriteString(checkedWords(p))
	return b.String()
}

// completeness says how much of an image is here.
func completeness(p image.Picture) string {
	switch {
	case p.Status.State == "corrupt":
		return "It does not match its sums: reads of it fail."
	case p.Status.Percent >= 100:
		return "All of it is here: guests wait for nothing."
	case p.Status.CachedBytes == 0:
		return "Nothing of it has been fetched yet."
	}
	return percent(p.Status.Percent) + " of it is here."
}

// fetchedWords say how much came during a boot, why and from where.
func fetchedWords(t *trace.Trace, end time.Duration, verb string) string {
	type part struct {
		text string
		n    int64
	}
	parts := map[string]*part{}
	total := int64(0)
	for _, a := range t.Arrivals {
		if micros(a.At) > end {
			continue
		}
		n := int64(a.N) * t.Block
		if at := int64(a.Block) * t.Block; t.Size >= 0 {
			n = max(0, min(n, t.Size-at))
		}
		text := [...]string{"were asked for", "came along with what was asked for", "by the profile", "to complete the image"}[a.Why]
		if a.From != 0 {
			text = "came from " + sourceName(t.From[a.From-1])
		}
		total += n
		if parts[text] == nil {
			parts[text] = &part{text: text}
		}
		parts[text].n += n
	}
	if total == 0 {
		return "Nothing was fetched: all that it read was here. "
	}
	of := ""
	if t.Size > 0 {
		of = " of " + humanize.IBytes(uint64(t.Size))
	}
	var list []*part
	for _, p := range parts {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *part) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.text, b.text)) })
	var words []string
	rest := 100.0
	for i, p := range list {
		share := 100 * float64(p.n) / float64(total)
		if share < 0.5 || i == 4 {
			words = append(words, "the rest in other ways")
			break
		}
		words = append(words, percent(share)+" "+p.text)
		if rest -= share; rest < 0.5 {
			break
		}
	}
	return fmt.Sprintf("%s%s %s: %s. ", humanize.IBytes(uint64(total)), of, verb, strings.Join(words, ", "))
}

// sourceName is where blocks came from: a release, if the name is that of an image.
func sourceName(label string) string {
	label = show.Clip(label, 80)
	if dir := path.Dir(label); dir != "." && !strings.Contains(label, "://") {
		return clean(dir)
	}
	return cmp.Or(clean(label), "another image")
}

// checkedWords say how what a guest got was checked.
func checkedWords(p image.Picture) string {
	switch verify := cmp.Or(p.Boot.Verify, p.Status.Verify); {
	case p.Status.State == "corrupt":
		return "The image does not match its sums: reads of it fail."
	case verify == "block", verify == "kept":
		return "Every block was checked before it was served."
	case verify == "strict":
		return "The whole image was checked before the first block was served."
	case p.Status.State == "verified":
		return "Blocks were served as they came; the whole has matched its sums since."
	case p.Status.State == "unverified":
		return "There is nothing to check its blocks against."
	}
	return "Blocks were served as they came; the whole is checked once all of it is here."
}

// percent is a share for people.
func percent(p float64) string {
	switch {
	case p > 0 && p < 1:
		return "less than 1 %"
	case p > 99 && p < 100:
		return "99 %"
	}
	return fmt.Sprintf("%.0f %%", p)
}

// took is a time of a boot.
func took(d time.Duration) string {
	if d < 95*time.Millisecond {
		return fmt.Sprintf("%d ms", max(d.Milliseconds(), 1))
	}
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
}

// Ago is a span of time in at most two units.
func Ago(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d < 2*365*24*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return fmt.Sprintf("%d years", d/(365*24*time.Hour))
}
