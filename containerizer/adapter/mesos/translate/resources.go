package translate

import (
	"math"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// What Mesos makes of quantities.
const (
	sharesPerCPU  = 1024
	minShares     = 2
	periodMicros  = 100_000
	minQuota      = 1_000
	mebibyte      = 1 << 20
	minMemory     = 32 * mebibyte
	cpus          = "cpus"
	mem           = "mem"
	unlimited     = -1
	maxMebibytes  = math.MaxInt64 / mebibyte
	maxProcessors = 1 << 20
)

// quantities are what is asked for of what can be bounded. Negative is nothing said.
type quantities struct{ cpus, mem float64 }

// requested adds up resources. What cannot be given is refused: what is persistent, what
// may be taken back, and to a container that no framework asks for what is reserved.
func (t *Translator) requested(list []*mesosv1.Resource) (quantities, error) {
	q := quantities{-1, -1}
	for _, r := range list {
		switch {
		case r.GetRevocable() != nil || r.GetShared() != nil || !t.o.Reserved && reserved(r):
			return q, invalid("resource %.100q is reserved, revocable or shared, which cannot be given", r.GetName())
		case r.GetDisk().GetPersistence() != nil || r.GetDisk().GetVolume() != nil:
			return q, invalid("resource %.100q is a persistent volume", r.GetName())
		}
		name, value := r.GetName(), r.GetScalar().GetValue()
		scalar := r.GetType() == mesosv1.Value_SCALAR && r.GetScalar() != nil
		switch name {
		case cpus, mem, "disk", "gpus":
			if !scalar || !(value >= 0) || math.IsInf(value, 0) {
				return q, invalid("resource %q is not a number of 0 or more", name)
			}
		}
		switch name {
		case cpus:
			q.cpus = math.Max(q.cpus, 0) + value
		case mem:
			q.mem = math.Max(q.mem, 0) + value
		case "gpus":
			if value > 0 {
				return q, unsupported("resource \"gpus\": devices are not given by number here")
			}
		}
	}
	return q, nil
}

// reserved says whether only some may have r.
func reserved(r *mesosv1.Resource) bool {
	return len(r.GetReservations()) > 0 || r.GetReservation() != nil || r.GetRole() != "*" //nolint:staticcheck // old clients still say it
}

// limited reads limits, which are not below what is requested.
func limited(limits map[string]*mesosv1.Value_Scalar, request quantities) (quantities, error) {
	q := quantities{-1, -1}
	for name, scalar := range limits {
		value := scalar.GetValue()
		switch {
		case name != cpus && name != mem:
			return q, invalid("there is no limit of %.100q (there are %q and %q)", name, cpus, mem)
		case !(value >= 0):
			return q, invalid("limit of %q is not a number of 0 or more", name)
		case name == cpus && value < request.cpus, name == mem && value < request.mem:
			return q, invalid("limit %g of %q is below the request", value, name)
		}
		if name == cpus {
			q.cpus = value
		} else {
			q.mem = value
		}
	}
	return q, nil
}

// groups are the control groups' values for a request and limits.
func (t *Translator) groups(request, limit quantities) (specs.LinuxResources, error) {
	var r specs.LinuxResources
	for _, n := range []float64{request.cpus, limit.cpus} {
		if n > maxProcessors && !math.IsInf(n, 1) {
			return r, invalid("%g cpus are more than can be", n)
		}
	}
	for _, n := range []float64{request.mem, limit.mem} {
		if n > maxMebibytes && !math.IsInf(n, 1) {
			return r, invalid("%g MB of memory are more than can be", n)
		}
	}
	if request.cpus >= 0 || limit.cpus >= 0 {
		r.CPU = t.cpuGroups(request.cpus, limit.cpus)
	}
	if request.mem >= 0 || limit.mem >= 0 {
		r.Memory = memoryGroups(request.mem, limit.mem)
	}
	return r, nil
}

func (t *Translator) cpuGroups(request, limit float64) *specs.LinuxCPU {
	c := &specs.LinuxCPU{}
	if request >= 0 {
		c.Shares = new(max(uint64(request*sharesPerCPU), minShares))
	}
	if limit < 0 && t.o.EnableCFS {
		limit = request
	}
	switch {
	case limit < 0:
	case math.IsInf(limit, 1):
		c.Quota = new(int64(unlimited))
	default:
		c.Quota, c.Period = new(max(int64(limit*periodMicros), minQuota)), new(uint64(periodMicros))
	}
	return c
}

func memoryGroups(request, limit float64) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	if request >= 0 {
		m.Reservation = new(max(int64(request*mebibyte), minMemory))
	}
	if limit < 0 {
		limit = request
	}
	if math.IsInf(limit, 1) {
		m.Limit = new(int64(unlimited))
		return m
	}
	m.Limit = new(max(int64(limit*mebibyte), minMemory))
	return m
}

// Sum is what a control group needs in which all of orders run, without limits of
// their own: where one has a limit it counts for its request.
func (t *Translator) Sum(orders []*Order) (specs.LinuxResources, error) {
	request, limit := quantities{-1, -1}, quantities{-1, -1}
	for _, o := range orders {
		r, err := t.requested(o.Resources)
		if err != nil {
			return specs.LinuxResources{}, err
		}
		l, err := limited(o.Limits, r)
		if err != nil {
			return specs.LinuxResources{}, err
		}
		request = quantities{add(request.cpus, r.cpus), add(request.mem, r.mem)}
		if l.cpus < 0 && t.o.EnableCFS {
			l.cpus = r.cpus
		}
		if l.mem < 0 {
			l.mem = r.mem
		}
		limit = quantities{add(limit.cpus, l.cpus), add(limit.mem, l.mem)}
		if l.cpus < 0 { // it is not bounded, nor can all of them be
			limit.cpus = math.Inf(1)
		}
	}
	return t.groups(request, limit)
}

// add adds what is said.
func add(a, b float64) float64 {
	if a < 0 || b < 0 {
		return max(a, b)
	}
	return a + b
}
