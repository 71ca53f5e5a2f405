// Package plan is what the host tells the guest of a test machine to do, and what
// the guest answers: plain data that both sides link.
package plan

// Where the guest finds its plan, its module index and itself.
const (
	Path        = "/lib/berth-vm/plan.json"
	ModulesPath = "/lib/berth-vm/modules.json"
	GuestPath   = "/lib/berth-vm/guest"
	// ImageDir of the initial ramdisk becomes the root filesystem.
	ImageDir = "/image"
)

// Where the disk is, when there is one.
const (
	DiskDevice = "/dev/vda"
	DiskDir    = "/disk"
)

// Names of the virtio ports.
const (
	OutputPort = "berth.output"
	StatusPort = "berth.status"
)

// Cgroup layouts.
const (
	CgroupV2     = "v2"
	CgroupV1     = "v1"
	CgroupHybrid = "hybrid"
)

// Plan is one run.
type Plan struct {
	Args   []string `json:"args"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
	Cgroup string   `json:"cgroup"`
	// Disk asks for DiskDevice to be mounted on DiskDir.
	Disk bool `json:"disk,omitempty"`
}

// Status is how it ended. Error is set when the guest could not run the program.
type Status struct {
	Exit int `json:"exit"`
	// Output counts the bytes written to the output port.
	Output int64  `json:"output"`
	Error  string `json:"error,omitempty"`
}

// Modules tell the guest what it can load. Names are as the kernel writes them,
// with underscores.
type Modules struct {
	Files   map[string]Module `json:"files"`
	Aliases []Alias           `json:"aliases"`
}

// Module is a kernel object and what must be loaded before it.
type Module struct {
	Path    string   `json:"path"`
	Depends []string `json:"depends,omitempty"`
}

// Alias maps what the kernel asks for, a shell pattern, to a module.
type Alias struct {
	Pattern string `json:"pattern"`
	Module  string `json:"module"`
}
