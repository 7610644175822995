package xvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// tarKind is what is at a path, as far as it matters to what may be at it or below it.
type tarKind int

const (
	tarNothing tarKind = iota
	tarDir
	tarFile
	tarOther // a link that is not followed, a device
)

// tarDirCost is what a directory that is only implied by names takes from Limits.HeaderBytes: about its memory.
const tarDirCost = 64

// errTarCut says that the archive ends before a sparse map does.
var errTarCut = errors.New("archive ends within a sparse map")

// entry reads a header that is a member by itself.
func (w *tarWalker) entry(ctx context.Context, e *tarEntry) (next int64, done bool, err error) {
	e.tarPending, w.pending = w.pending, tarPending{}
	if err := w.describe(e); err != nil {
		return 0, false, err
	}
	if err := w.charge(e.at, int64(len(e.name)+len(e.link))); err != nil {
		return 0, false, err
	}
	clean, slash, reason := tarName(e.name)
	kind, special := tarKindOf(e.flag, slash)
	if special != "" {
		reason = special
	} else if kind == tarFile && slash && reason == "" {
		reason = "it is a hard link whose name ends in a slash"
	}
	switch {
	case kind == tarNothing && e.flag != 'V' && e.flag != 'N':
		return 0, false, w.refuse(e, special)
	case e.stored > 0 && (kind == tarDir && e.flag != 'D' || strings.IndexByte("12346V", e.flag) >= 0):
		return 0, false, w.refuse(e, "it has content that some programs skip and others read as headers")
	case (e.flag == 'S' || e.pax != nil && e.pax.sparse.any) && (kind != tarFile || e.flag == '1'):
		return 0, false, w.refuse(e, "it is sparse and not a file")
	case kind == tarFile && e.stored > w.size:
		return 0, false, &TarError{Kind: ErrTarLimit, Offset: e.at, Name: shownName(e.name), Reason: "it is too large"}
	}
	m := Member{Offset: e.body, Stored: e.stored, Size: e.stored, ModTime: e.block.modTime(), Mode: e.block.mode()}
	if e.pax != nil && !e.pax.modTime.IsZero() {
		m.ModTime = e.pax.modTime
	}
	end := e.body
	if kind == tarFile && e.flag != '1' {
		end, err = w.layOut(ctx, e, &m)
	}
	if errors.Is(err, errTarCut) || err == nil && e.stored > w.win.size-end {
		w.truncate(fmt.Sprintf("archive ends within member %q", shownName(e.name)))
		w.hide(e.name, "the archive ends before it does")
		return 0, true, nil
	}
	if err != nil {
		return 0, false, w.wrap(e, err)
	}
	next = tarNext(end, e.stored)
	if clean == "" || kind == tarNothing {
		w.hide(e.name, reason)
		return next, false, nil
	}
	if again, err := w.again(ctx, e, clean, kind, m); again || err != nil {
		return next, false, err
	}
	below, err := w.place(e, clean, kind)
	if err != nil {
		return 0, false, err
	}
	if reason == "" {
		reason = below
	}
	switch {
	case reason != "":
		w.hide(e.name, reason)
	case kind == tarFile:
		m.Name = clean
		return next, false, w.show(e, m)
	}
	return next, false, nil
}

// describe finds the name, the link and the stored size that the header and those before it agree on.
func (w *tarWalker) describe(e *tarEntry) error {
	var reason string
	if e.tarPending.name != nil {
		e.name = *e.tarPending.name
	} else if e.name, reason = e.block.name(); e.pax != nil && e.pax.path != "" {
		e.name, reason = e.pax.path, ""
	}
	if e.pax != nil && e.pax.sparse.values["name"] != "" {
		e.name, reason = e.pax.sparse.values["name"], ""
	}
	if e.flag != 'S' && e.block.strayMap() {
		reason = "its header has a sparse map although it is not sparse, which some programs heed"
	}
	if reason != "" {
		return w.refuse(e, reason)
	}
	switch e.link = tarString(e.block[157:257]); {
	case e.tarPending.link != nil:
		e.link = *e.tarPending.link
	case e.pax != nil && e.pax.link != "":
		e.link = e.pax.link
	}
	n, err := tarNumber(e.block[124:136])
	if err == errTarBlank && strings.IndexByte("123456V", e.flag) >= 0 {
		n, err = 0, nil
	}
	if err != nil {
		return w.refuse(e, "size: "+err.Error())
	}
	if e.pax != nil && e.pax.size >= 0 {
		n = e.pax.size
	}
	e.stored = n
	return nil
}

// tarKindOf says what a type flag stands for; hidden is the reason if it is not shown. With tarNothing it takes no
// path, and all but V and N are refused for that reason.
func tarKindOf(flag byte, slash bool) (kind tarKind, hidden string) {
	switch flag {
	case '0', 0, '7', 'S':
		if slash {
			return tarDir, ""
		}
		return tarFile, ""
	case '1':
		return tarFile, ""
	case '2':
		return tarOther, "it is a symbolic link"
	case '3', '4', '6':
		return tarOther, "it is a device or a pipe"
	case '5', 'D':
		return tarDir, ""
	case 'V':
		return tarNothing, "it is a volume label"
	case 'N':
		return tarNothing, "it is a list of names of an old GNU tar"
	case 'M':
		return tarOther, "it began in another archive"
	case 'A', 'X':
		return tarNothing, fmt.Sprintf("its type %q is read differently by different programs", flag)
	}
	return tarOther, fmt.Sprintf("its type %q is unknown", flag)
}

// layOut finds where the content of a regular file is and returns the offset of the first byte of it.
func (w *tarWalker) layOut(ctx context.Context, e *tarEntry, m *Member) (end int64, err error) {
	var regions []tarRegion
	switch {
	case e.flag == 'S':
		if e.block.format() != tarGNU || e.pax != nil {
			return 0, errors.New("sparse member of a kind that is read differently by different programs")
		}
		regions, m.Size, end, err = w.oldGNUMap(ctx, e.block, e.body)
	case e.pax != nil && e.pax.sparse.any:
		if e.block.format() != tarUstar { // GNU tar does not heed the map then
			return 0, errors.New("sparse member of a kind that is read differently by different programs")
		}
		if e.stored > w.win.size-e.body {
			return 0, errTarCut
		}
		regions, m.Size, end, err = w.paxMap(ctx, &e.pax.sparse, e.body, e.stored)
		m.Stored -= end - e.body
	default:
		return e.body, nil
	}
	if err != nil {
		return 0, err
	}
	m.Offset = end
	if m.Segments, err = tarSegments(regions, m.Offset, m.Stored, m.Size); err != nil {
		return 0, err
	}
	w.regions -= len(m.Segments)
	if e.flag != 'S' { // the map is a part of what is stored
		end = e.body
	}
	return end, nil
}

// wrap makes an error of layOut one of Walk.
func (w *tarWalker) wrap(e *tarEntry, err error) error {
	var atArchive *TarError
	var atRead *tarReadError
	switch {
	case err == errTarRegions:
		return &TarError{Kind: ErrTarLimit, Offset: e.at, Name: shownName(e.name), Reason: err.Error()}
	case errors.As(err, &atArchive), errors.As(err, &atRead):
		return err
	}
	return w.refuse(e, err.Error())
}

// place notes that kind is at a path and refuses what would make the path mean two things. below is the reason to
// hide it if it is below something that is not shown.
func (w *tarWalker) place(e *tarEntry, clean string, kind tarKind) (below string, err error) {
	for i := 0; i < len(clean); i++ {
		if clean[i] != '/' {
			continue
		}
		switch w.paths[clean[:i]] {
		case tarFile:
			return "", w.refuse(e, "it is inside of what is also a file")
		case tarOther:
			return "it is reached through a link or a device", nil
		case tarNothing:
			if err := w.charge(e.at, tarDirCost); err != nil {
				return "", err
			}
			w.paths[clean[:i]] = tarDir
		}
	}
	switch had := w.paths[clean]; {
	case had == tarNothing || had == tarDir && kind == tarDir:
	case had == tarDir || kind == tarDir:
		return "", w.refuse(e, "it is both a directory and something else")
	default:
		return "", w.refuse(e, "it is in the archive twice")
	}
	w.paths[clean] = kind
	return "", nil
}

// tarAgainMax is the most of a member that is read to see whether it is the same as one before.
const tarAgainMax = 1 << 20

// again hides a file that is in the archive for a second time with the same content, as some tools append it. What it
// reads for that counts as header bytes.
func (w *tarWalker) again(ctx context.Context, e *tarEntry, clean string, kind tarKind, m Member) (bool, error) {
	i, ok := w.files[clean]
	if !ok || kind != tarFile || e.flag == '1' {
		return false, nil
	}
	first := w.idx.Members[i]
	if first.Link != "" || first.Segments != nil || m.Segments != nil || first.Size != m.Size || m.Size > tarAgainMax {
		return false, nil
	}
	if err := w.charge(e.at, 2*m.Size); err != nil {
		return false, err
	}
	content, err := w.win.at(ctx, m.Offset, m.Size)
	if err != nil {
		return false, err
	}
	here := bytes.Clone(content)
	if content, err = w.win.at(ctx, first.Offset, m.Size); err != nil || !bytes.Equal(content, here) {
		return false, err
	}
	w.hide(e.name, "it is in the archive a second time, with the same content")
	return true, nil
}

// show adds a member, or hides it if it is a link to nothing or too like another.
func (w *tarWalker) show(e *tarEntry, m Member) error {
	if e.flag == '1' {
		target, _, reason := tarName(e.link)
		i, ok := w.files[target]
		if reason != "" || !ok {
			w.hide(e.name, "it is a hard link to what is not an earlier file")
			return nil
		}
		name := m.Name
		m = w.idx.Members[i]
		m.Name, m.Link = name, target
	} else if m.Size > w.size {
		return &TarError{Kind: ErrTarLimit, Offset: e.at, Name: m.Name, Reason: "its size, with those before it, is too large"}
	}
	folded := w.foldName(m.Name)
	if w.folded[folded] {
		w.hide(e.name, "its name differs from an earlier one in case or Unicode form only")
		return nil
	}
	if m.Link == "" {
		w.size -= m.Size
	}
	w.folded[folded] = true
	w.files[m.Name] = len(w.idx.Members)
	w.idx.Members = append(w.idx.Members, m)
	return nil
}

func (w *tarWalker) hide(name, reason string) {
	w.idx.Hidden = append(w.idx.Hidden, Hidden{Name: shownName(name), Reason: shownName(reason)})
}
