package interp

const sysExecveat = 322
