package monitor

const isARM64 = 0
