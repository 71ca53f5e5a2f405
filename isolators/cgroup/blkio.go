package cgroup

import (
	"errors"
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

const minIOWeight, maxIOWeight = 10, 1000 // of version 1 and the specification

// planBlockIO adds weights and rates, in the form of the node's version.
func (i *Isolator) planBlockIO(p *plan, r *specs.LinuxBlockIO) error {
	if r == nil {
		return nil
	}
	var form ioForm = legacyIO{}
	if i.node.unified {
		form = unifiedIO{}
	}
	b := ioPlan{form: form}
	b.weight("blockIO.weight", "", r.Weight, form.weight)
	b.weight("blockIO.leafWeight", "", r.LeafWeight, form.leafWeight)
	for _, d := range r.WeightDevice {
		const field = "blockIO.weightDevice"
		key := b.key(field, d.LinuxBlockIODevice)
		b.weight(field, key, d.Weight, form.weight)
		b.weight(field, key, d.LeafWeight, form.leafWeight)
	}
	b.rates("blockIO.throttleReadBpsDevice", readBytes, r.ThrottleReadBpsDevice)
	b.rates("blockIO.throttleWriteBpsDevice", writeBytes, r.ThrottleWriteBpsDevice)
	b.rates("blockIO.throttleReadIOPSDevice", readOps, r.ThrottleReadIOPSDevice)
	b.rates("blockIO.throttleWriteIOPSDevice", writeOps, r.ThrottleWriteIOPSDevice)
	if len(b.errs) > 0 {
		return errors.Join(b.errs...)
	}
	if len(b.settings) > 0 && i.node.of(blkio) == nil {
		return i.node.missing(blkio, "blockIO")
	}
	p.settings = append(p.settings, b.settings...)
	return nil
}

// throttle is one of the four rates, by its name in version 1.
type throttle string

const (
	readBytes  throttle = "blkio.throttle.read_bps_device"
	writeBytes throttle = "blkio.throttle.write_bps_device"
	readOps    throttle = "blkio.throttle.read_iops_device"
	writeOps   throttle = "blkio.throttle.write_iops_device"
)

// unified is the name of the rate in io.max.
func (t throttle) unified() string {
	switch t {
	case readBytes:
		return "rbps"
	case writeBytes:
		return "wbps"
	case readOps:
		return "riops"
	case writeOps:
		return "wiops"
	}
	panic("no rate: " + string(t))
}

// ioForm is how one version writes I/O limits. key is the device, "" for all.
type ioForm interface {
	weight(key string, w int) (setting, error)
	leafWeight(key string, w int) (setting, error)
	rate(t throttle, key string, rate uint64) setting
}

// ioPlan collects settings, and every mistake in what was asked.
type ioPlan struct {
	form     ioForm
	settings []setting
	errs     []error
}

func (b *ioPlan) add(field string, s setting, err error) {
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("%s: %w", field, err))
		return
	}
	for at := &s; at != nil; at = at.or {
		at.field, at.controller = field, blkio
	}
	b.settings = append(b.settings, s)
}

// weight adds a weight, unless it is not set.
func (b *ioPlan) weight(field, key string, w *uint16, form func(string, int) (setting, error)) {
	if w == nil || *w == 0 {
		return
	}
	if *w < minIOWeight || *w > maxIOWeight {
		b.add(field, setting{}, fmt.Errorf("%d is outside %d to %d (0: as it is): %w", *w, minIOWeight, maxIOWeight, containerizer.ErrInvalid))
		return
	}
	s, err := form(key, int(*w))
	b.add(field, s, err)
}

func (b *ioPlan) rates(field string, t throttle, list []specs.LinuxThrottleDevice) {
	for _, d := range list {
		b.add(field, b.form.rate(t, b.key(field, d.LinuxBlockIODevice), d.Rate), nil)
	}
}

// key is the number of a device as control files have it.
func (b *ioPlan) key(field string, d specs.LinuxBlockIODevice) string {
	if d.Major < 0 || d.Minor < 0 || d.Major >= 1<<12 || d.Minor >= 1<<20 {
		b.add(field, setting{}, fmt.Errorf("%d:%d is not a device number: %w", d.Major, d.Minor, containerizer.ErrInvalid))
	}
	return strconv.FormatInt(d.Major, 10) + ":" + strconv.FormatInt(d.Minor, 10)
}

// legacyIO is version 1. Its weights exist with one of two schedulers: BFQ (since
// Linux 5.0), and CFQ before; leaf weights with CFQ only.
type legacyIO struct{}

func (legacyIO) weight(key string, w int) (setting, error) {
	s := legacyWeight("blkio.bfq.weight", key, w)
	cfq := legacyWeight("blkio.weight", key, w)
	s.or = &cfq
	return s, nil
}

func (legacyIO) leafWeight(key string, w int) (setting, error) {
	return legacyWeight("blkio.leaf_weight", key, w), nil
}

func legacyWeight(file, key string, w int) setting {
	if key == "" {
		return setting{file: file, value: strconv.Itoa(w)}
	}
	return setting{file: file + "_device", value: key + " " + strconv.Itoa(w), key: key, reset: key + " 0"}
}

// rate: 0 is how the kernel takes a limit away.
func (legacyIO) rate(t throttle, key string, rate uint64) setting {
	return setting{file: string(t), value: key + " " + strconv.FormatUint(rate, 10), key: key, reset: key + " 0"}
}

// unifiedIO is version 2: io.bfq.weight has the specification's range, io.weight
// is ten times as wide.
type unifiedIO struct{}

func (unifiedIO) weight(key string, w int) (setting, error) {
	reset := key + " default"
	if key == "" {
		key, reset = "default", "default 100"
	}
	wide := setting{file: "io.weight", value: key + " " + strconv.Itoa(1+(w-minIOWeight)*9999/990), key: key, reset: reset}
	return setting{file: "io.bfq.weight", value: key + " " + strconv.Itoa(w), key: key, reset: reset, or: &wide}, nil
}

func (unifiedIO) leafWeight(string, int) (setting, error) {
	return setting{}, fmt.Errorf("a leafWeight exists with cgroup version 1 only: %w", containerizer.ErrUnsupported)
}

func (unifiedIO) rate(t throttle, key string, rate uint64) setting {
	limit := "max"
	if rate != 0 {
		limit = strconv.FormatUint(rate, 10)
	}
	return setting{file: "io.max", value: key + " " + t.unified() + "=" + limit, key: key, reset: key + " rbps=max wbps=max riops=max wiops=max"}
}
