package main

import (
	"math/bits"
	"os"
	"strconv"
	"strings"
)

// confinement is capabilities, seccomp, no_new_privs and the security module.
func confinement() []fact {
	status := statusFields()
	facts := []fact{
		capabilities("capabilities", status["CapEff"]),
		capabilities("ever at most", status["CapBnd"]),
		one("seccomp", "%s", seccomp(status["Seccomp"], status["Seccomp_filters"])),
		one("no new privileges", "%s", yes(status["NoNewPrivs"])),
	}
	if label, err := os.ReadFile("/proc/self/attr/current"); err == nil && len(label) > 0 {
		facts = append(facts, one("security label", "%s", strings.Trim(string(label), "\x00\n")))
	}
	facts = append(facts, one("kernel log", "%s", attempt("/dev/kmsg")), one("kernel memory", "%s", attempt("/proc/kcore")))
	return append(facts, one("kernel settings", "%s", settings("/proc/sys/kernel/panic")))
}

// settings opens a kernel setting for writing, and writes nothing.
func settings(path string) string {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return "cannot be changed (" + why(err) + ")"
	}
	_ = f.Close() // nothing was written
	return "CAN BE CHANGED"
}

// statusFields are the lines "Name:\tvalue" of /proc/self/status.
func statusFields() map[string]string {
	fields := map[string]string{}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fields
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

// capabilities names the bits of a hexadecimal set, in the order of
// linux/capability.h.
func capabilities(name, set string) fact {
	names := strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap
		linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module
		sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time
		sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog
		wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`)
	mask, err := strconv.ParseUint(set, 16, 64)
	if err != nil {
		return one(name, "unknown")
	}
	if mask == 0 {
		return one(name, "none")
	}
	if bits.OnesCount64(mask) >= len(names) {
		return one(name, "all %d", bits.OnesCount64(mask))
	}
	var have []string
	for bit, n := range names {
		if mask&(1<<bit) != 0 {
			have = append(have, n)
		}
	}
	const perLine = 8
	f := fact{name: name}
	for len(have) > 0 {
		n := min(perLine, len(have))
		f.values = append(f.values, strings.Join(have[:n], " "))
		have = have[n:]
	}
	return f
}

func seccomp(mode, filters string) string {
	switch mode {
	case "0":
		return "off"
	case "1":
		return "strict"
	case "2":
		return "filtering system calls (filters: " + filters + ")"
	}
	return "unknown"
}

func yes(field string) string {
	if field == "1" {
		return "yes"
	}
	return "no"
}

// attempt opens a file that containers have no business with, and reads a byte: a
// masked file is there and empty.
func attempt(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "out of reach (" + why(err) + ")"
	}
	defer f.Close() //nolint:errcheck // only read from
	if n, _ := f.Read(make([]byte, 1)); n == 0 {
		return "out of reach (" + path + " is masked)"
	}
	return "READABLE"
}
