package feed

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseDate reads the dates that feeds really carry, in UTC:
//
//   - RFC 822 and its successors, with or without weekday, minutes, seconds or zone, with
//     two- or four-digit years, with or without AM and PM;
//   - RFC 3339 and ISO 8601, with a space or a comma for the T, a fraction, one-digit
//     months, days and hours, slashes or dots, a weekday before it, or only the day,
//     the month or the year;
//     also the basic form (20260203T100000Z, 20260203100000), the day of the year
//     (2026-034), and the days with a zone of XML Schema (2026-02-03+01:00);
//   - what languages print: Python's str() of a datetime, as Archipel writes it
//     ("2016-11-07 09:51:30.123456"), Go's ("2026-02-03 10:00:00 +0000 UTC"),
//     JavaScript's ("Tue Feb 03 2026 10:00:00 GMT+0100 (CET)", "February 3, 2026 at
//     10:00 AM");
//   - asctime, with or without a zone: "Mon Nov  7 09:51:30 2016";
//   - seconds since 1970 as a number of nine to eleven digits, milliseconds of 13.
//
// A date without a zone is taken as UTC, and so is one with a zone that is not
// known: a release with a date that is some hours off is better than one without.
// The name of the weekday may be of any language. Numbers that may be month or day
// (03/02/2026) are no date. ok is false for anything else, and for years before 1970
// or after 9999.
func parseDate(s string) (t time.Time, ok bool) {
	if len(s) > 100 {
		return time.Time{}, false
	}
	s = strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "\u2212", "-") // spaces and minus of Unicode
	for _, parse := range []func(string) (time.Time, bool){parseISO, parseEpoch, parseWords} {
		if t, ok = parse(s); ok {
			break
		}
	}
	if !ok || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, false
	}
	return t.UTC(), true
}

var (
	// isoDate has the groups year; month and day, of the form with dashes and of the
	// basic one; day of the year; clock; zone of a clock, or of a day alone.
	isoDate = regexp.MustCompile(`^(?:\pL+\.?, ?)?(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?|(\d\d)(\d\d)|-?(\d{3}))?(?:[Tt ,]+(\d[\d:.,]*) ?(.*)|[Tt]|[Zz]|([+-]\d\d:\d\d))?$`)
	digits  = regexp.MustCompile(`^\d{12}(?:\d\d)?$`)
)

func parseISO(s string) (time.Time, bool) {
	if digits.MatchString(s) {
		s = s[:8] + "T" + s[8:]
	}
	m := isoDate.FindStringSubmatch(s)
	if m == nil {
		return time.Time{}, false
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil { // the group is empty
			return 1
		}
		return n
	}
	year, month, day := number(m[1]), number(m[2]+m[4]), number(m[3]+m[5])
	if m[6] != "" {
		month, day = 1, number(m[6])
	} else if m[7]+m[9] != "" && m[3]+m[5] == "" { // a clock or a zone, and no day
		return time.Time{}, false
	}
	at := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if at.Year() != year || m[6] == "" && (int(at.Month()) != month || at.Day() != day) {
		return time.Time{}, false // the 31st of a shorter month
	}
	if m[7] == "" {
		return at.Add(-parseZones(strings.Fields(m[9]))), true
	}
	clock, ok := parseClock(m[7])
	if !ok {
		return time.Time{}, false
	}
	// Go prints the number and the name of a zone, and sometimes a monotonic clock.
	zones, _, _ := strings.Cut(m[8], " m=")
	words := strings.Fields(zones)
	if len(words) > 0 && halfDay(&clock, words[0]) {
		words = words[1:]
	}
	return at.Add(clock - parseZones(words)), true
}

// halfDay takes AM or PM for a clock of 12 hours.
func halfDay(clock *time.Duration, word string) bool {
	half := strings.ToUpper(strings.ReplaceAll(word, ".", ""))
	if half != "AM" && half != "PM" || *clock >= 13*time.Hour {
		return false
	}
	*clock %= 12 * time.Hour
	if half == "PM" {
		*clock += 12 * time.Hour
	}
	return true
}

// parseEpoch reads seconds since 1970, with or without a fraction, and
// milliseconds.
func parseEpoch(s string) (time.Time, bool) {
	whole, _, _ := strings.Cut(s, ".")
	n, err := strconv.ParseUint(whole, 10, 63)
	switch len(whole) {
	case 9, 10, 11:
		return time.Unix(int64(n), 0), err == nil
	case 13:
		return time.UnixMilli(int64(n)), err == nil
	}
	return time.Time{}, false
}

var (
	comment   = regexp.MustCompile(`\(([^()]*)\)`)
	clockZone = regexp.MustCompile(`^(\d{1,2}:[\d:.]*\d)(.*)$`)
	dashed    = regexp.MustCompile(`\b(\d{1,4})-([A-Za-z]+)-(\d+)\b`)
)

// parseWords reads day, month name, year, clock and zone in whichever order:
// the parts tell themselves apart.
func parseWords(s string) (time.Time, bool) {
	var (
		day, month, year    int
		haveYear, haveClock bool
		clock               time.Duration
		zones               []string
	)
	// A comment may name the zone again, or alone.
	aside := ""
	if m := comment.FindStringSubmatch(s); m != nil {
		aside, s = m[1], comment.ReplaceAllString(s, " ")
	}
	s = dashed.ReplaceAllString(s, "$1 $2 $3")
	for n, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' || r == '\r' }) {
		switch m := clockZone.FindStringSubmatch(w); {
		case m != nil && !haveClock:
			if clock, haveClock = parseClock(m[1]); !haveClock {
				return time.Time{}, false
			}
			if m[2] != "" && !halfDay(&clock, m[2]) { // glued to the clock: 3:04PM, 15:04:05Z, 15:04:05+0200
				zones = append(zones, m[2])
			}
		case haveClock && halfDay(&clock, w):
		case w[0] >= '0' && w[0] <= '9':
			n, err := strconv.Atoi(strings.TrimRight(w, "stndrh."))
			switch {
			case err != nil:
				return time.Time{}, false
			case day == 0 && n >= 1 && n <= 31 && len(w) < 5:
				day = n
			case !haveYear && len(w) <= 4:
				year, haveYear = fullYear(n, len(w)), true
			case !haveClock && len(w) <= 2 && n < 24: // an hour without minutes
				clock, haveClock = time.Duration(n)*time.Hour, true
			default:
				return time.Time{}, false
			}
		case month == 0 && monthOf(w) != 0:
			month = monthOf(w)
		case isWeekday(w) || w == "at" || w == "of":
		case haveClock || day != 0 && month != 0 && haveYear:
			zones = append(zones, w)
		case n == 0 && !isOffset(w): // a weekday in another language
		default:
			return time.Time{}, false
		}
	}
	if _, known := zoneHours[strings.ToUpper(aside)]; known {
		zones = append(zones, aside)
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if day == 0 || month == 0 || !haveYear || t.Day() != day { // the 31st of a shorter month
		return time.Time{}, false
	}
	return t.Add(clock - parseZones(zones)), true
}

// fullYear applies RFC 2822, section 4.3, to years of two and three digits.
func fullYear(y, digits int) int {
	switch {
	case digits <= 2 && y < 50:
		return y + 2000
	case digits <= 3:
		return y + 1900
	}
	return y
}

// parseClock reads HH[:MM[:SS[.frac]]], with or without the colons. 24:00 is
// the end of the day; a leap second is the one before it.
func parseClock(s string) (time.Duration, bool) {
	s, frac, _ := strings.Cut(strings.TrimRight(strings.Replace(s, ",", ".", 1), ".,"), ".")
	p := strings.Split(s, ":")
	if len(p) == 1 {
		if len(s) != 1 && len(s) != 2 && len(s) != 4 && len(s) != 6 {
			return 0, false
		}
		p = p[:0]
		for pair := range slices.Chunk([]byte(s), 2) {
			p = append(p, string(pair))
		}
	}
	if len(p) > 3 || len(p) < 3 && frac != "" || strings.Trim(frac, "0123456789") != "" {
		return 0, false
	}
	p = append(p, "0", "0")
	h, err1 := strconv.ParseUint(p[0], 10, 8)
	m, err2 := strconv.ParseUint(p[1], 10, 8)
	sec, err3 := strconv.ParseUint(p[2], 10, 8)
	if err1 != nil || err2 != nil || err3 != nil || h > 24 || h == 24 && m+sec > 0 || m > 59 || sec > 60 {
		return 0, false
	}
	ns, _ := strconv.Atoi((frac + "000000000")[:9])
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(min(sec, 59))*time.Second + time.Duration(ns), true
}

// zoneHours are zones by their names, in hours east of Greenwich. Where a name
// means several, it is the North American one, as in RFC 822.
var zoneHours = map[string]int{
	"Z": 0, "UT": 0, "UTC": 0, "GMT": 0, "WET": 0,
	"PT": -8, "MT": -7, "CT": -6, "ET": -5, "AT": -4, "HST": -10, "AKST": -9, "AKDT": -8, "PST": -8, "PDT": -7, "MST": -7, "MDT": -6, "CST": -6, "CDT": -5, "EST": -5, "EDT": -4, "AST": -4, "ADT": -3,
	"BRT": -3, "ART": -3, "BST": 1, "WEST": 1, "CET": 1, "MET": 1, "MEZ": 1, "CEST": 2, "MEST": 2, "MESZ": 2, "EET": 2, "SAST": 2, "EEST": 3, "MSK": 3,
	"SGT": 8, "HKT": 8, "AWST": 8, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
}

// parseZones reads what says the zone of one date. A number (+01, +0100, +01:00,
// GMT+1) goes before a name; what is not known is UTC.
func parseZones(zones []string) (offset time.Duration) {
	known := false
	for _, z := range zones {
		z, _, _ = strings.Cut(strings.ToUpper(strings.Trim(z, `"';`)), "[") // Java: +01:00[Europe/Paris]
		number := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(z, "GMT"), "UTC"), "Z")
		if isOffset(number) {
			if offset, ok := parseOffset(strings.TrimSuffix(number, "Z")); ok {
				return offset
			}
		}
		if hours, isName := zoneHours[z]; isName && !known {
			offset, known = time.Duration(hours)*time.Hour, true
		}
	}
	return offset
}

func isOffset(s string) bool { return s != "" && (s[0] == '+' || s[0] == '-') }

// parseOffset reads a sign and H, HH, HMM, HHMM, HH:MM or HH:MM:SS.
func parseOffset(s string) (time.Duration, bool) {
	digits := strings.ReplaceAll(s[1:], ":", "")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	if len(digits) > 6 {
		return 0, false
	}
	d, ok := parseClock(digits)
	if !ok || d > 14*time.Hour {
		return 0, false
	}
	if s[0] == '-' {
		d = -d
	}
	return d, true
}

func monthOf(w string) int {
	w = strings.TrimSuffix(w, ".")
	for m := time.January; m <= time.December; m++ {
		if isStart(w, m.String()) {
			return int(m)
		}
	}
	if strings.EqualFold(w, "sept") {
		return 9
	}
	return 0
}

func isWeekday(w string) bool {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if isStart(strings.TrimSuffix(w, "."), d.String()) {
			return true
		}
	}
	return false
}

// isStart reports whether w is full or begins it with three letters at least.
func isStart(w, full string) bool {
	return len(w) >= 3 && len(w) <= len(full) && strings.EqualFold(full[:len(w)], w)
}
