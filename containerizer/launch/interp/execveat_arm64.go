package interp

const sysExecveat = 281
