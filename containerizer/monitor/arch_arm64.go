package monitor

const isARM64 = 1
