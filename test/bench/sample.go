package main

import (
	"fmt"
	"slices"
	"time"
)

// sample collects what one contender needed in one block.
type sample struct {
	wall, cpu []time.Duration
}

func (s *sample) add(wall, cpu time.Duration) {
	s.wall = append(s.wall, wall)
	s.cpu = append(s.cpu, cpu)
}

// quantile returns the value below which the fraction q of values lies.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func median(values []time.Duration) time.Duration { return quantile(values, 0.5) }

// ms writes a duration as milliseconds with three significant digits or so.
func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// spread writes a median with its 10th and 90th percentile.
func spread(values []time.Duration) string {
	return fmt.Sprintf("%s [%s–%s]", ms(median(values)), ms(quantile(values, 0.1)), ms(quantile(values, 0.9)))
}
