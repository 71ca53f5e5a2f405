package logfile

// stampSize is the length of a time in the log.
const stampSize = len("2006-01-02T15:04:05.000000000Z")

// stamp formats a time in UTC as RFC 3339 with nanoseconds. It is cheap for times
// within the same second as the one before.
type stamp struct {
	second int64
	text   [stampSize]byte
}

func (s *stamp) set(second, nanosecond int64) {
	if s.text[0] == 0 || second != s.second {
		s.second = second
		s.setSecond(second)
	}
	digits(s.text[20:29], nanosecond)
}

func (s *stamp) setSecond(second int64) {
	days := second / 86400
	rest := second % 86400
	if rest < 0 {
		days, rest = days-1, rest+86400
	}
	year, month, day := civil(days)
	copy(s.text[:], "0000-00-00T00:00:00.000000000Z")
	digits(s.text[0:4], year)
	digits(s.text[5:7], month)
	digits(s.text[8:10], day)
	digits(s.text[11:13], rest/3600)
	digits(s.text[14:16], rest/60%60)
	digits(s.text[17:19], rest%60)
}

// civil turns days since 1970-01-01 into a date of the Gregorian calendar. Years
// begin on the first of March in the calculation, which puts the leap day last.
func civil(days int64) (year, month, day int64) {
	const era = 146097 // days in 400 years
	days += 719468     // from 0000-03-01
	e := days / era
	if days < 0 {
		e = (days - era + 1) / era
	}
	d := days - e*era
	y := (d - d/1460 + d/36524 - d/146096) / 365
	d -= 365*y + y/4 - y/100
	m := (5*d + 2) / 153
	day = d - (153*m+2)/5 + 1
	year, month = y+e*400, m+3
	if month > 12 {
		year, month = year+1, month-12
	}
	return year, month, day
}

// digits writes n with leading zeros over all of b.
func digits(b []byte, n int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}
