package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Images says when images go to make room. Without a high mark none goes by itself.
type Images struct {
	// GCHigh and GCLow are marks of the file system's use ("85%"): beyond the high one
	// unused images are removed, the least recently used first, until it is below the
	// low one; "" is five percent less than the high one.
	GCHigh string `toml:"gc_high"`
	GCLow  string `toml:"gc_low"`
	// GCMinAge ("24h") spares images that were pulled or used more recently; "" is two
	// minutes.
	GCMinAge string `toml:"gc_min_age"`
}

// defaultMinAge is that of the kubelet.
const defaultMinAge = 2 * time.Minute

// Pressure returns the marks in percent, 0 without any, and the age.
func (i *Images) Pressure() (high, low int, age time.Duration, err error) {
	if age = defaultMinAge; i.GCMinAge != "" {
		if age, err = time.ParseDuration(i.GCMinAge); err != nil || age < 0 {
			return 0, 0, 0, fmt.Errorf("images.gc_min_age = %q is not a duration, such as 24h", i.GCMinAge)
		}
	}
	if high, err = percent("images.gc_high", i.GCHigh); err != nil {
		return 0, 0, 0, err
	}
	if low, err = percent("images.gc_low", i.GCLow); err != nil {
		return 0, 0, 0, err
	}
	const distance = 5
	switch {
	case high == 0 && low != 0:
		return 0, 0, 0, errors.New("images.gc_low means nothing without images.gc_high")
	case i.GCLow == "":
		low = max(0, high-distance)
	case low >= high:
		return 0, 0, 0, fmt.Errorf("images.gc_low = %q is not below images.gc_high = %q", i.GCLow, i.GCHigh)
	}
	return high, low, age, nil
}

// percent parses "85%"; 0 is "".
func percent(key, s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	digits, ok := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%s = %q is not between 1%% and 100%%", key, s)
	}
	return n, nil
}
