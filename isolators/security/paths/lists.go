package paths

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Masked returns the paths that are hidden by default: those of Docker, containerd
// and the kubelet. [Isolator] adds thermal_throttle of every processor.
func Masked() []string {
	return []string{
		"/proc/acpi",
		"/proc/asound",
		"/proc/interrupts", // timing of everybody's input and network
		"/proc/kcore",
		"/proc/keys",
		"/proc/latency_stats",
		"/proc/sched_debug",
		"/proc/scsi", // writing detaches disks (CVE-2017-16539)
		"/proc/timer_list",
		"/proc/timer_stats",
		"/sys/devices/virtual/powercap", // power meters leak secrets (CVE-2020-8694, PLATYPUS)
		"/sys/firmware",
	}
}

// Readonly returns the paths that cannot be written by default.
func Readonly() []string {
	return []string{
		"/proc/bus",
		"/proc/fs",
		"/proc/irq",
		"/proc/sys",
		"/proc/sysrq-trigger",
	}
}

// maxCPUs is more than any kernel is built for.
const maxCPUs = 1 << 16

// thermalThrottle returns the directories that tell how warm each processor runs,
// a side channel like the power meters. Most virtual machines and all AMD
// processors have none: that costs one failing stat.
func (i *Isolator) thermalThrottle() []string {
	cpus := filepath.Join(i.sysfs, "devices/system/cpu")
	if _, err := os.Lstat(filepath.Join(cpus, "cpu0/thermal_throttle")); err != nil {
		return nil
	}
	possible, err := os.ReadFile(filepath.Join(cpus, "possible"))
	if err != nil {
		possible = []byte("0") // sysfs without it is not Linux's; the one seen stays masked
	}
	var paths []string
	for _, n := range parseCPUs(string(possible)) {
		paths = append(paths, fmt.Sprintf("/sys/devices/system/cpu/cpu%d/thermal_throttle", n))
	}
	return paths
}

// parseCPUs reads the kernel's list format, "0-3,8" (cpuset(7)).
func parseCPUs(list string) []int {
	var cpus []int
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from < 0 || to >= maxCPUs {
			continue
		}
		for n := from; n <= to; n++ {
			cpus = append(cpus, n)
		}
	}
	return cpus
}
