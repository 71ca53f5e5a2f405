package pull

import (
	"fmt"
	"slices"
	"time"
)

func median(all []figures, of func(figures) time.Duration) time.Duration {
	values := make([]time.Duration, 0, len(all))
	for _, f := range all {
		values = append(values, of(f))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// peak is the highest of all runs.
func peak(all []figures) int64 {
	var most int64
	for _, f := range all {
		most = max(most, f.peak)
	}
	return most
}

// seconds with three significant digits or so.
func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.3f", d.Seconds())
	}
	return fmt.Sprintf("%.2f", d.Seconds())
}
