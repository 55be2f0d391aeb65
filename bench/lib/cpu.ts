/**
 * CPU time of a process, user and system together: what a server costs, whatever else the machine does meanwhile.
 */
import { readFileSync } from 'node:fs';

/** µs since the process began. */
export interface CpuTime {
  readonly user: number;
  readonly system: number;
}

/** Of this process; the server children answer with it over IPC. */
export function ownCpuTime(): CpuTime {
  return process.cpuUsage();
}

/** Clock ticks a second in /proc (USER_HZ, fixed at 100 on Linux). */
const TICKS_PER_SECOND = 100;

/**
 * Of any process, from /proc/<pid>/stat: Linux only and to 10 ms, so only over seconds.
 *
 * @throws {Error} when there is no such process or no /proc
 */
export function cpuTimeOf(pid: number): CpuTime {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The command, in parentheses, may hold spaces: fields are counted from behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const toMicroseconds = (ticks: string | undefined): number => (Number(ticks) * 1_000_000) / TICKS_PER_SECOND;
  return { user: toMicroseconds(fields[11]), system: toMicroseconds(fields[12]) };
}

/** µs between two readings. */
export function cpuBetween(before: CpuTime, after: CpuTime): number {
  return after.user - before.user + (after.system - before.system);
}

/** Of the whole machine since it began, idle time left out, in µs; undefined where there is no /proc. */
export function busyTimeOfMachine(): number | undefined {
  try {
    const line = /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1];
    const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (line ?? '').split(' ').map(Number);
    return ((user + nice + system + irq + softirq + steal) * 1_000_000) / TICKS_PER_SECOND;
  } catch {
    return undefined;
  }
}
