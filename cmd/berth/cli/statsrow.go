package cli

import (
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

// row is a container's line. What was not measured is "--".
func (s *sampler) row(c *containerizer.Status, now *containerizer.Usage) format.Row {
	id, name := c.ID.String(), c.ID.Short()
	if !s.flags.noTrunc {
		id = c.ID.Short()
	}
	if c.Spec != nil && c.Spec.Name != "" {
		name = c.Spec.Name
	}
	memory, percent := memoryText(now.Memory)
	var cpu, io, mem *containerizer.Pressure
	if now.CPU != nil {
		cpu = now.CPU.Pressure
	}
	if now.IO != nil {
		io = now.IO.Pressure
	}
	if now.Memory != nil {
		mem = now.Memory.Pressure
	}
	size, inodes := diskText(now.Disk)
	return format.Row{
		"CPUPressure": pressureText(cpu), "DiskInodes": inodes, "DiskUsage": size, "IOPressure": pressureText(io), "MemPressure": pressureText(mem),
		"BlockIO": blockText(now.IO), "CPUPerc": cpuText(s.before[c.ID], now, s.processors), "Container": c.ID.String(), "ID": id,
		"MemPerc": percent, "MemUsage": memory, "Name": name, "NetIO": networkText(now.Network), "PIDs": pidsText(now.PIDs),
	}
}

const unmeasured = "--"

// cpuText is the share of one processor, so that two busy ones are 200 %.
func cpuText(before, now *containerizer.Usage, processors int) string {
	if before == nil || before.CPU == nil || now.CPU == nil {
		return unmeasured
	}
	wall := now.At.Sub(before.At)
	if wall <= 0 || now.CPU.Total < before.CPU.Total { // it was started anew
		return "0.00%"
	}
	share := float64(now.CPU.Total-before.CPU.Total) / float64(wall)
	return fmt.Sprintf("%.2f%%", min(share, float64(processors))*100)
}

// memoryText is the working set, against the limit or the node's memory.
func memoryText(m *containerizer.MemoryUsage) (usage, percent string) {
	if m == nil {
		return unmeasured + " / " + unmeasured, unmeasured
	}
	limit, used := memoryLimit(m), m.WorkingSetBytes
	usage = units.BytesSize(float64(used)) + " / " + units.BytesSize(float64(limit))
	if limit == 0 {
		return usage, unmeasured
	}
	return usage, fmt.Sprintf("%.2f%%", float64(used)/float64(limit)*100)
}

// memoryLimit is the limit, or the node's memory if that is less.
func memoryLimit(m *containerizer.MemoryUsage) uint64 {
	limit := m.LimitBytes
	if total := nodeMemory(); limit == 0 || total > 0 && limit > total {
		limit = total
	}
	return limit
}

func nodeMemory() uint64 {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0
	}
	return uint64(si.Totalram) * uint64(si.Unit) //nolint:unconvert // differs by architecture
}

func blockText(io *containerizer.IOUsage) string {
	if io == nil {
		return unmeasured
	}
	return sizeText(io.ReadBytes) + " / " + sizeText(io.WriteBytes)
}

func networkText(interfaces []containerizer.NetworkUsage) string {
	if len(interfaces) == 0 {
		return unmeasured
	}
	rx, tx := traffic(interfaces)
	return sizeText(rx) + " / " + sizeText(tx)
}

// traffic is that of all interfaces but the loopback.
func traffic(interfaces []containerizer.NetworkUsage) (rx, tx uint64) {
	for _, i := range interfaces {
		if i.Interface != "lo" {
			rx, tx = rx+i.RxBytes, tx+i.TxBytes
		}
	}
	return rx, tx
}

// pressureText is how much of the last ten seconds some process was stalled.
func pressureText(p *containerizer.Pressure) string {
	if p == nil {
		return unmeasured
	}
	return fmt.Sprintf("%.2f%%", p.Some.Avg10)
}

func diskText(d *containerizer.DiskUsage) (size, inodes string) {
	if d == nil {
		return unmeasured, unmeasured
	}
	return sizeText(d.Bytes), strconv.FormatUint(d.Inodes, 10)
}

func pidsText(p *containerizer.PIDsUsage) string {
	if p == nil {
		return unmeasured
	}
	return strconv.FormatUint(p.Current, 10)
}

func sizeText(n uint64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
