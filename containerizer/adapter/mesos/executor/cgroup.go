package executor

import (
	"os"
	"path"
	"path/filepath"
	"strings"
)

// OwnCgroup is the control group that an agent made for the executor whose sandbox is
// directory; "" when it made none. What is below it is measured and killed with it.
func OwnCgroup(directory string) string {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	run, err := filepath.EvalSymlinks(directory) // the sandbox of a run is named as its container is
	if err != nil {
		return ""
	}
	return cgroupOf(string(groups), filepath.Base(run))
}

// cgroupOf reads /proc/PID/cgroup (cgroups(7)). On version 1 the hierarchies of memory,
// processor time and processes that can be frozen have to agree.
func cgroupOf(groups, container string) string {
	found := ""
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			return ""
		}
		own := fields[2]
		if path.Base(own) == "leaf" { // version 2 has processes in leaves only
			own = path.Dir(own)
		}
		if controllers := fields[1]; path.Base(own) != container {
			for _, c := range []string{"memory", "cpu", "freezer"} {
				if strings.Contains(","+controllers+",", ","+c+",") {
					return "" // the agent does not isolate by it
				}
			}
			continue
		}
		if found != "" && found != own {
			return ""
		}
		found = own
	}
	return found
}
