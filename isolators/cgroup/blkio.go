package cgroup

import (
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

const minIOWeight, maxIOWeight = 10, 1000 // of version 1 and the specification

func (i *Isolator) planBlockIO(p *plan, r *specs.LinuxBlockIO) error {
	if r == nil {
		return nil
	}
	before := len(p.settings)
	var err error
	if i.node.unified {
		err = planIOUnified(p, r)
	} else {
		err = planBlkioLegacy(p, r)
	}
	if err == nil && len(p.settings) > before && i.node.of(blkio) == nil {
		err = i.node.missing(blkio, "blockIO")
	}
	return err
}

func checkWeight(field string, w uint16) error {
	if w < minIOWeight || w > maxIOWeight {
		return fmt.Errorf("%s %d is outside %d to %d (0: as it is): %w", field, w, minIOWeight, maxIOWeight, containerizer.ErrInvalid)
	}
	return nil
}

func deviceKey(field string, d specs.LinuxBlockIODevice) (string, error) {
	if d.Major < 0 || d.Minor < 0 || d.Major >= 1<<12 || d.Minor >= 1<<20 {
		return "", fmt.Errorf("%s: %d:%d is not a device number: %w", field, d.Major, d.Minor, containerizer.ErrInvalid)
	}
	return strconv.FormatInt(d.Major, 10) + ":" + strconv.FormatInt(d.Minor, 10), nil
}

// throttles are the four lists of rates with their names in both versions.
func throttles(r *specs.LinuxBlockIO) [4]struct {
	field, legacy, unified string
	list                   []specs.LinuxThrottleDevice
} {
	return [4]struct {
		field, legacy, unified string
		list                   []specs.LinuxThrottleDevice
	}{
		{"blockIO.throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", r.ThrottleReadBpsDevice},
		{"blockIO.throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", r.ThrottleWriteBpsDevice},
		{"blockIO.throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", r.ThrottleReadIOPSDevice},
		{"blockIO.throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", r.ThrottleWriteIOPSDevice},
	}
}

// planBlkioLegacy: weights exist with one of two schedulers, BFQ (since 5.0) and
// CFQ before.
func planBlkioLegacy(p *plan, r *specs.LinuxBlockIO) error {
	weight := func(field, bfq, cfq string, w *uint16, key string) error {
		if w == nil || *w == 0 {
			return nil
		}
		if err := checkWeight(field, *w); err != nil {
			return err
		}
		value, reset := strconv.Itoa(int(*w)), ""
		if key != "" {
			value, reset = key+" "+value, key+" 0"
		}
		s := setting{field: field, controller: blkio, file: cfq, value: value, key: key, reset: reset}
		if bfq != "" {
			old := s
			s.file, s.or = bfq, &old
		}
		p.add(s)
		return nil
	}
	if err := weight("blockIO.weight", "blkio.bfq.weight", "blkio.weight", r.Weight, ""); err != nil {
		return err
	}
	if err := weight("blockIO.leafWeight", "", "blkio.leaf_weight", r.LeafWeight, ""); err != nil {
		return err
	}
	for _, d := range r.WeightDevice {
		key, err := deviceKey("blockIO.weightDevice", d.LinuxBlockIODevice)
		if err != nil {
			return err
		}
		if err := weight("blockIO.weightDevice", "blkio.bfq.weight_device", "blkio.weight_device", d.Weight, key); err != nil {
			return err
		}
		if err := weight("blockIO.weightDevice", "", "blkio.leaf_weight_device", d.LeafWeight, key); err != nil {
			return err
		}
	}
	for _, t := range throttles(r) {
		for _, d := range t.list {
			key, err := deviceKey(t.field, d.LinuxBlockIODevice)
			if err != nil {
				return err
			}
			// A rate of 0 is how the kernel takes a limit away.
			p.add(setting{field: t.field, controller: blkio, file: t.legacy, value: key + " " + strconv.FormatUint(d.Rate, 10), key: key, reset: key + " 0"})
		}
	}
	return nil
}

// planIOUnified: io.bfq.weight has the specification's range, io.weight is ten
// times as wide.
func planIOUnified(p *plan, r *specs.LinuxBlockIO) error {
	if r.LeafWeight != nil && *r.LeafWeight != 0 {
		return fmt.Errorf("blockIO.leafWeight exists with cgroup version 1 only: %w", containerizer.ErrUnsupported)
	}
	weight := func(field string, w *uint16, key string) error {
		if w == nil || *w == 0 {
			return nil
		}
		if err := checkWeight(field, *w); err != nil {
			return err
		}
		name := "default"
		reset := "default 100"
		if key != "" {
			name, reset = key, key+" default"
		}
		wide := setting{field: field, controller: blkio, file: "io.weight", value: name + " " + strconv.Itoa(1+(int(*w)-10)*9999/990), key: name, reset: reset}
		p.add(setting{field: field, controller: blkio, file: "io.bfq.weight", value: name + " " + strconv.Itoa(int(*w)), key: name, reset: reset, or: &wide})
		return nil
	}
	if err := weight("blockIO.weight", r.Weight, ""); err != nil {
		return err
	}
	for _, d := range r.WeightDevice {
		key, err := deviceKey("blockIO.weightDevice", d.LinuxBlockIODevice)
		if err != nil {
			return err
		}
		if d.LeafWeight != nil && *d.LeafWeight != 0 {
			return fmt.Errorf("blockIO.weightDevice: a leaf weight exists with cgroup version 1 only: %w", containerizer.ErrUnsupported)
		}
		if err := weight("blockIO.weightDevice", d.Weight, key); err != nil {
			return err
		}
	}
	for _, t := range throttles(r) {
		for _, d := range t.list {
			key, err := deviceKey(t.field, d.LinuxBlockIODevice)
			if err != nil {
				return err
			}
			rate := "max"
			if d.Rate != 0 {
				rate = strconv.FormatUint(d.Rate, 10)
			}
			p.add(setting{field: t.field, controller: blkio, file: "io.max", value: key + " " + t.unified + "=" + rate, key: key, reset: key + " rbps=max wbps=max riops=max wiops=max"})
		}
	}
	return nil
}
