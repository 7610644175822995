package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/image"
)

// releases shows one page of them.
func (v *view) releases(st *catalog.Status, q query) {
	counts := map[string]int{}
	var found []*catalog.ReleaseStatus
	find := strings.ToLower(q.find)
	for i := range st.Releases {
		r := &st.Releases[i]
		state, _ := ReleaseState(r.State)
		if r.Withdrawn != nil {
			state = "withdrawn"
		}
		counts[state]++
		if q.find == "" || strings.Contains(strings.ToLower(r.Name+" "+r.Title), find) {
			found = append(found, r)
		}
	}
	for name, n := range counts {
		v.Counts = append(v.Counts, count{n, name})
	}
	slices.SortFunc(v.Counts, func(a, b count) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name)) })
	v.Pages = max(1, (len(found)+perPage-1)/perPage)
	v.Page = min(max(q.page, 1), v.Pages)
	if v.Page > 1 {
		v.Prev = "/?" + q.values(v.Page-1).Encode() + "#releases"
	}
	if v.Page < v.Pages {
		v.Next = "/?" + q.values(v.Page+1).Encode() + "#releases"
	}
	from := (v.Page - 1) * perPage
	for _, r := range found[from:min(from+perPage, len(found))] {
		v.Releases = append(v.Releases, rowOf(r, v.Now))
	}
}

func rowOf(r *catalog.ReleaseStatus, now time.Time) row {
	x := row{Name: clean(r.Name), Title: clean(r.Title), Signed: signedBy(r)}
	x.State, x.Class = ReleaseState(r.State)
	if r.Withdrawn != nil {
		x.State += ", withdrawn " + r.Withdrawn.Format(time.DateOnly) + "; kept: " + clean(strings.Join(r.Held, ", "))
	}
	if w := r.Prewarm; w != nil {
		x.State += map[string]string{
			"fetching": "; what it boots from is being fetched", "done": "; boots at once", "limit": "; what it boots from is more than prewarm_limit=",
			"full": "; no room for what it boots from", "failed": "; what it boots from cannot be fetched",
		}[w.State]
	}
	switch {
	case r.Error != "":
		x.Why = clean(r.Error)
	case len(r.Incomplete) > 0:
		x.Why, x.Class = "not all here, and machines may depend on it: "+clean(strings.Join(r.Incomplete, ", ")), "bad"
	case slices.ContainsFunc(r.Files, func(f image.Status) bool { return f.State == "corrupt" }):
		x.State, x.Class, x.Why = x.State+", but not whole", "bad", "an image does not match its sums: reads of it fail"
	case r.Alarm != "":
		x.Why, x.Class = "ALARM: "+clean(r.Alarm), "bad"
	case len(r.Warnings) > 0:
		x.Why = clean(r.Warnings[0])
	}
	if r.Published != nil {
		x.Age = Ago(now.Sub(*r.Published))
	}
	sum := int64(0)
	for _, f := range r.Files {
		if f.Image && !f.NoDisk {
			sum += max(f.Size, 0)
			if len(x.Images) < 4 {
				x.Images = append(x.Images, heroOf(r.Name, f))
			}
		}
	}
	if sum > 0 {
		x.Size = humanize.IBytes(uint64(sum))
	}
	return x
}

// Unusable is the state of a release that is not what it ought to be.
const Unusable = "cannot be used"

// ReleaseState is the state of a release in words, and its class in the style sheet.
func ReleaseState(state string) (words, class string) {
	switch state {
	case "indexed":
		return "ready", "good"
	case "indexing":
		return "being read", "busy"
	case "refused":
		return "refused", "bad"
	case "rejected":
		return Unusable, "bad"
	}
	return "not opened yet", "plain"
}

// signedBy says who vouches for a release.
func signedBy(r *catalog.ReleaseStatus) string {
	if r.Trust == nil {
		return ""
	}
	switch m := r.Trust.Manifest; {
	case r.Trust.By == "sidecar" && r.Sidecar != nil:
		return "sidecar of " + clean(r.Sidecar.Signer)
	case m.State == "good":
		return clean(m.Signer)
	case m.State == "bad":
		return "bad signature"
	case m.State == "unchecked":
		return "not checked: no keys"
	}
	return "not signed"
}
