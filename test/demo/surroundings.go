package main

import (
	"net"
	"os"
	"strings"
)

// surroundings are mounts, devices and network.
func surroundings() []fact {
	mounts := fact{name: "mounts"}
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		mounts.values = []string{why(err)}
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		access, _, _ := strings.Cut(f[3], ",")
		mounts.values = append(mounts.values, f[1]+" ("+f[2]+", "+access+")")
	}
	return []fact{list("files at /", "/"), list("devices", "/dev"), interfaces(), mounts}
}

func list(name, dir string) fact {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return one(name, "%s", why(err))
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return one(name, "%s", strings.Join(names, " "))
}

func interfaces() fact {
	all, err := net.Interfaces()
	if err != nil {
		return one("network", "%v", err)
	}
	f := fact{name: "network"}
	for _, i := range all {
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		words := []string{i.Name}
		for _, a := range addresses {
			words = append(words, a.String())
		}
		f.values = append(f.values, strings.Join(words, " "))
	}
	if len(f.values) == 0 {
		f.values = []string{"none"}
	}
	return f
}
