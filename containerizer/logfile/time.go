package logfile

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// ParseTime parses a point in time as Docker's --since takes it: RFC 3339 with or
// without parts of the time and zone, seconds since 1970 with a fraction, or a
// duration before now such as "42m".
func ParseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04",
		"2006-01-02T15", "2006-01-02", "2006-01-02Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05",
	} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1e11 {
		whole, frac := math.Modf(f)
		return time.Unix(int64(whole), int64(frac*1e9)), nil
	}
	return time.Time{}, fmt.Errorf("%q is not a time (RFC 3339, seconds since 1970, or a duration such as 10m): %w", s, containerizer.ErrInvalid)
}
