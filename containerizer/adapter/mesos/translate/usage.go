package translate

import (
	"net/netip"

	"github.com/berth-dev/berth/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// AddressOf is an address in CIDR notation, without its prefix.
func AddressOf(cidr string) *mesosv1.NetworkInfo_IPAddress {
	a := &mesosv1.NetworkInfo_IPAddress{Protocol: mesosv1.NetworkInfo_IPv4.Enum(), IpAddress: &cidr}
	if p, err := netip.ParsePrefix(cidr); err == nil {
		a.IpAddress = new(p.Addr().String())
		if p.Addr().Is6() {
			a.Protocol = mesosv1.NetworkInfo_IPv6.Enum()
		}
	}
	return a
}

// StatisticsOf is usage in Mesos's form. What was not measured is left out.
func StatisticsOf(u *containerizer.Usage) *mesosv1.ResourceStatistics {
	r := &mesosv1.ResourceStatistics{Timestamp: new(float64(u.At.UnixNano()) / 1e9)}
	if c := u.CPU; c != nil {
		r.CpusUserTimeSecs, r.CpusSystemTimeSecs = new(c.User.Seconds()), new(c.System.Seconds())
		r.CpusNrPeriods, r.CpusNrThrottled = new(uint32(c.Periods)), new(uint32(c.ThrottledPeriods)) //nolint:gosec // Mesos counts in 32 bits
		r.CpusThrottledTimeSecs = new(c.Throttled.Seconds())
	}
	if m := u.Memory; m != nil {
		r.MemTotalBytes, r.MemRssBytes, r.MemAnonBytes = &m.Bytes, &m.RSSBytes, &m.RSSBytes
		r.MemCacheBytes, r.MemFileBytes, r.MemSwapBytes = &m.CacheBytes, &m.CacheBytes, &m.SwapBytes
		if m.LimitBytes > 0 {
			r.MemLimitBytes = &m.LimitBytes
		}
	}
	if p := u.PIDs; p != nil {
		r.Threads = new(uint32(p.Current)) //nolint:gosec // of 22 bits
	}
	if d := u.Disk; d != nil {
		r.DiskUsedBytes = new(d.Bytes)
	}
	for _, n := range u.Network {
		if r.NetRxBytes == nil {
			r.NetRxBytes, r.NetTxBytes = new(uint64), new(uint64)
			r.NetRxPackets, r.NetTxPackets = new(uint64), new(uint64)
		}
		*r.NetRxBytes += n.RxBytes
		*r.NetTxBytes += n.TxBytes
		*r.NetRxPackets += n.RxPackets
		*r.NetTxPackets += n.TxPackets
	}
	return r
}
