package feed

import (
	"strconv"
	"strings"
	"time"
)

// parseDate reads the dates that feeds really carry, in UTC:
//
//   - RFC 822 and its successors, with or without weekday, seconds or zone,
//     with two- or four-digit years;
//   - RFC 3339 and ISO 8601, with a space for the T, a fraction, or only the day;
//   - str() of a Python datetime, as Archipel writes it: "2016-11-07 09:51:30.123456";
//   - asctime, with or without a zone: "Mon Nov  7 09:51:30 2016";
//   - seconds since 1970 as a number of nine to eleven digits.
//
// A date without a zone is taken as UTC. ok is false for anything else, and
// for years before 1970 or after 9999.
func parseDate(s string) (t time.Time, ok bool) {
	if len(s) > 100 {
		return time.Time{}, false
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return time.Time{}, false
	}
	if t, ok = parseISO(s); !ok {
		if t, ok = parseEpoch(s); !ok {
			t, ok = parseWords(s)
		}
	}
	if !ok || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// parseISO reads YYYY-MM-DD[(T| )HH:MM[:SS[.frac]][ ][zone]].
func parseISO(s string) (time.Time, bool) {
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return time.Time{}, false
	}
	day, err := time.Parse("2006-01-02", s[:10])
	if err != nil {
		return time.Time{}, false
	}
	rest := s[10:]
	if rest == "" {
		return day, true
	}
	if rest[0] != 'T' && rest[0] != 't' && rest[0] != ' ' {
		return time.Time{}, false
	}
	rest = strings.TrimLeft(rest[1:], " ")
	clock := strings.IndexFunc(rest, func(r rune) bool {
		return (r < '0' || r > '9') && r != ':' && r != '.' && r != ','
	})
	zone := ""
	if clock >= 0 {
		rest, zone = rest[:clock], strings.TrimSpace(rest[clock:])
	}
	d, ok := parseClock(rest)
	off, zok := parseZone(zone)
	return day.Add(d - off), ok && zok
}

// parseEpoch reads seconds since 1970, with or without a fraction.
func parseEpoch(s string) (time.Time, bool) {
	whole, _, _ := strings.Cut(s, ".")
	if len(whole) < 9 || len(whole) > 11 {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(whole, 10, 63)
	return time.Unix(int64(n), 0), err == nil
}

// parseWords reads day, month name, year, clock and zone in whichever order:
// the parts tell themselves apart.
func parseWords(s string) (time.Time, bool) {
	var (
		day, month, year int
		clock, offset    time.Duration
		haveClock        bool
		haveYear         bool
	)
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' || r == '\r' }) {
		switch {
		case strings.Contains(w, ":") && w[0] != '+' && w[0] != '-':
			if haveClock {
				return time.Time{}, false
			}
			// A zone may be glued to the clock: 15:04:05Z, 15:04:05+0200.
			zone := strings.IndexFunc(w, func(r rune) bool { return (r < '0' || r > '9') && r != ':' && r != '.' })
			z := ""
			if zone >= 0 {
				w, z = w[:zone], w[zone:]
			}
			var ok, zok bool
			clock, ok = parseClock(w)
			offset, zok = parseZone(z)
			if !ok || !zok {
				return time.Time{}, false
			}
			haveClock = true
		case w[0] >= '0' && w[0] <= '9' && strings.Count(w, "-") == 2: // 07-Nov-16
			p := strings.Split(w, "-")
			d, err1 := strconv.Atoi(p[0])
			m := monthOf(p[1])
			y, err2 := strconv.Atoi(p[2])
			if err1 != nil || err2 != nil || m == 0 || day != 0 || month != 0 || haveYear {
				return time.Time{}, false
			}
			day, month, year, haveYear = d, m, fullYear(y, len(p[2])), true
		case w[0] >= '0' && w[0] <= '9':
			n, err := strconv.Atoi(strings.TrimRight(w, "stndrh."))
			switch {
			case err != nil:
				return time.Time{}, false
			case day == 0 && n >= 1 && n <= 31 && len(w) < 4:
				day = n
			case !haveYear && len(w) <= 4:
				year, haveYear = fullYear(n, len(w)), true
			default:
				return time.Time{}, false
			}
		default:
			if m := monthOf(w); m != 0 && month == 0 {
				month = m
				continue
			}
			if isWeekday(w) {
				continue
			}
			off, ok := parseZone(w)
			if !ok || !haveClock {
				return time.Time{}, false
			}
			if off != 0 {
				offset = off
			}
		}
	}
	if day == 0 || month == 0 || !haveYear {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if t.Day() != day { // the 31st of a shorter month
		return time.Time{}, false
	}
	return t.Add(clock - offset), true
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

// parseClock reads HH:MM[:SS[.frac]]; a leap second is the one before it.
func parseClock(s string) (time.Duration, bool) {
	p := strings.Split(s, ":")
	if len(p) < 2 || len(p) > 3 {
		return 0, false
	}
	h, err1 := strconv.ParseUint(p[0], 10, 8)
	m, err2 := strconv.ParseUint(p[1], 10, 8)
	if err1 != nil || err2 != nil || h > 23 || m > 59 {
		return 0, false
	}
	d := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
	if len(p) == 3 {
		whole, frac, _ := strings.Cut(strings.Replace(p[2], ",", ".", 1), ".")
		sec, err := strconv.ParseUint(whole, 10, 8)
		if err != nil || sec > 60 {
			return 0, false
		}
		d += time.Duration(min(sec, 59)) * time.Second
		if frac = (frac + "000000000")[:9]; strings.Trim(frac, "0123456789") != "" {
			return 0, false
		}
		ns, _ := strconv.Atoi(frac)
		d += time.Duration(ns)
	}
	return d, true
}

// parseZone reads Z, ±HH, ±HHMM, ±HH:MM[:SS], a zone name, or any of these in
// parentheses or behind GMT or UTC. Of ambiguous names the North American
// meaning counts, as in RFC 822; an unknown name is not a zone.
func parseZone(s string) (time.Duration, bool) {
	s = strings.ToUpper(strings.Trim(s, "() "))
	for _, p := range []string{"GMT", "UTC"} {
		if len(s) > 3 && strings.HasPrefix(s, p) {
			s = strings.Trim(s[3:], "() ")
		}
	}
	switch s {
	case "", "Z", "UT", "UTC", "GMT", "WET":
		return 0, true
	case "EST", "CDT":
		return -5 * time.Hour, true
	case "EDT":
		return -4 * time.Hour, true
	case "CST", "MDT":
		return -6 * time.Hour, true
	case "MST", "PDT":
		return -7 * time.Hour, true
	case "PST":
		return -8 * time.Hour, true
	case "BST", "CET", "WEST", "MEZ":
		return time.Hour, true
	case "CEST", "EET", "MESZ":
		return 2 * time.Hour, true
	case "EEST", "MSK":
		return 3 * time.Hour, true
	}
	if s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	digits := strings.ReplaceAll(s[1:], ":", "")
	if len(digits) == 3 {
		digits = "0" + digits
	}
	for len(digits) < 4 {
		digits += "00"
	}
	h, err1 := strconv.ParseUint(digits[:2], 10, 8)
	m, err2 := strconv.ParseUint(digits[2:4], 10, 8)
	if err1 != nil || err2 != nil || len(digits) > 6 || h > 14 || m > 59 {
		return 0, false
	}
	d := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
	if s[0] == '-' {
		d = -d
	}
	return d, true
}

func monthOf(w string) int {
	if len(w) < 3 {
		return 0
	}
	const names = "janfebmaraprmayjunjulaugsepoctnovdec"
	i := strings.Index(names, strings.ToLower(w[:3]))
	if i < 0 || i%3 != 0 {
		return 0
	}
	full := time.Month(i/3 + 1).String()
	w = strings.TrimSuffix(w, ".")
	if len(w) > len(full) || !strings.EqualFold(full[:len(w)], w) {
		if !strings.EqualFold(w, "sept") {
			return 0
		}
	}
	return i/3 + 1
}

func isWeekday(w string) bool {
	w = strings.TrimSuffix(w, ".")
	if len(w) < 3 {
		return false
	}
	for d := time.Sunday; d <= time.Saturday; d++ {
		if full := d.String(); len(w) <= len(full) && strings.EqualFold(full[:len(w)], w) {
			return true
		}
	}
	return false
}
