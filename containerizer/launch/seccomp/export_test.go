package seccomp

import specs "github.com/opencontainers/runtime-spec/specs-go"

// CompileFor compiles for another machine than this one.
func CompileFor(p *specs.LinuxSeccomp, goarch string) (*Filter, error) { return compileFor(p, goarch) }

// Number returns the number of a call, -1 if the ABI (a column of the table) has none.
func Number(name string, column int) int32 {
	n, ok := lookup(name)
	if !ok {
		return -1
	}
	return n[column]
}

// SyscallNames lists all names of the table.
func SyscallNames() []string {
	var names []string
	for _, s := range syscalls {
		names = append(names, s.name)
	}
	return names
}

// CacheFileName returns the name of the file that caches p.
func CacheFileName(p *specs.LinuxSeccomp) string { return fileName(profileKey(p)) }

// DecodeCacheFile parses a cache file whose key is that of p.
func DecodeCacheFile(p *specs.LinuxSeccomp, data []byte) (*Filter, error) {
	return decodeFilter(profileKey(p), data)
}
