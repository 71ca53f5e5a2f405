package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

// nodeInfo is what `berth info` shows, in Docker's words where Docker has it.
type nodeInfo struct {
	ServerVersion     string
	Daemon            string `json:",omitempty"`
	Name              string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	RootDir           string `json:"DockerRootDir"`
	StateDir          string
	ConfigFile        string
	CgroupDriver      string
	CgroupVersion     string
	CgroupControllers []string
	SecurityOptions   []string
	KernelVersion     string
	OperatingSystem   string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          uint64
	Isolation         []string
	Conditions        []Condition `json:",omitempty"`
}

func newInfo(a *App) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "info [flags]",
		Short: "Show the node and what berth finds on it",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := a.info(cmd.Context())
			if err != nil {
				return err
			}
			switch text {
			case "":
				_, err = fmt.Fprint(a.Out, info.text())
				return err
			case "json":
				text = "{{json .}}"
			}
			return format.Objects(a.Out, []*nodeInfo{info}, text)
		},
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", "json, or a Go `template`")
	return cmd
}

func (a *App) info(ctx context.Context) (*nodeInfo, error) {
	s, err := a.Settings()
	if err != nil {
		return nil, err
	}
	info := &nodeInfo{
		ServerVersion: a.Version.Version, RootDir: s.Root, StateDir: s.State, ConfigFile: s.ConfigPath,
		CgroupDriver: cmp.Or(s.Cgroup.Driver, "cgroupfs"), OSType: "linux", NCPU: runtime.NumCPU(), Isolation: s.Isolation,
	}
	engine, err := a.engine(ctx)
	if err != nil {
		return nil, err
	}
	list, err := engine.List(ctx, containerizer.Filter{Brief: true})
	if err != nil {
		return nil, err
	}
	info.Containers = len(list)
	for _, c := range list {
		switch c.State {
		case containerizer.StateRunning:
			info.ContainersRunning++
		case containerizer.StatePaused:
			info.ContainersPaused++
		default:
			info.ContainersStopped++
		}
	}
	images, err := a.images(ctx)
	if err != nil {
		return nil, err
	}
	usage, err := images.Usage(ctx)
	if err != nil {
		return nil, err
	}
	info.Images = usage.Images
	if r, is := a.node.(Remote); is {
		d, err := r.Daemon(ctx)
		if err != nil {
			return nil, err
		}
		info.Daemon, info.Conditions = d.About, d.Conditions
	}
	return info, info.node()
}

// node fills in what the kernel says.
func (i *nodeInfo) node() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	i.Name, i.KernelVersion = unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Release[:])
	i.Architecture = unix.ByteSliceToString(u.Machine[:])
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return fmt.Errorf("sysinfo: %w", err)
	}
	i.MemTotal = uint64(si.Totalram) * uint64(si.Unit) //nolint:unconvert // differs by architecture
	i.CgroupVersion, i.CgroupControllers = cgroups()
	i.SecurityOptions = securityOptions()
	i.OperatingSystem = operatingSystem()
	return nil
}

// cgroups tells the version in use and its controllers.
func cgroups() (version string, controllers []string) {
	if data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "2", strings.Fields(string(data))
	}
	data, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return "", nil
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 4 && f[0][0] != '#' && f[1] != "0" && f[3] == "1" {
			controllers = append(controllers, f[0])
		}
	}
	return "1", controllers
}

func securityOptions() []string {
	options := []string{"name=seccomp,profile=builtin"}
	data, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return options
	}
	for m := range strings.SplitSeq(strings.TrimSpace(string(data)), ",") {
		if m == "apparmor" || m == "selinux" {
			options = append(options, "name="+m)
		}
	}
	return options
}

func operatingSystem() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return ""
}

func (i *nodeInfo) text() string {
	var b strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&b, "%-19s %v\n", name+":", value) }
	line("Containers", i.Containers)
	line(" Running", i.ContainersRunning)
	line(" Paused", i.ContainersPaused)
	line(" Stopped", i.ContainersStopped)
	line("Images", i.Images)
	line("Version", i.ServerVersion)
	if i.Daemon != "" {
		line("Daemon", i.Daemon)
	}
	for _, c := range i.Conditions {
		word := "no"
		if c.Active {
			word = "since " + c.Since.Format(time.RFC3339)
		}
		line(c.Name, word+" ("+c.Message+")")
	}
	line("Root directory", i.RootDir)
	line("State directory", i.StateDir)
	line("Configuration", i.ConfigFile)
	line("Cgroup driver", i.CgroupDriver)
	line("Cgroup version", i.CgroupVersion)
	line("Cgroup controllers", strings.Join(i.CgroupControllers, " "))
	line("Security", strings.Join(i.SecurityOptions, " "))
	line("Kernel", i.KernelVersion)
	line("Operating system", i.OperatingSystem)
	line("Architecture", i.Architecture)
	line("CPUs", i.NCPU)
	line("Memory", units.BytesSize(float64(i.MemTotal)))
	line("Name", i.Name)
	return b.String()
}
