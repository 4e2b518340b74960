/** Hosts that are network namespaces of this machine, each with an address and a host name of its own. */
import { execFileSync, spawnSync } from 'node:child_process'

const NAME = `lowrank${process.pid}`

function ip(...args) {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] })
}

/** The reason why this machine can have no such hosts; undefined if it can. */
export function lackOfHosts() {
  if (process.platform !== 'linux') return 'network namespaces are a feature of Linux'
  if (process.getuid() !== 0) return 'network namespaces need root'
  const tried = spawnSync('ip', ['netns', 'add', NAME], { encoding: 'utf8' })
  if (tried.error) return 'ip (iproute2) is not installed'
  if (tried.status !== 0) return `a network namespace cannot be made: ${tried.stderr.trim()}`
  ip('netns', 'del', NAME)
  return undefined
}

/** A number of hosts at one switch. */
export class Hosts {
  constructor(count) {
    this.names = Array.from({ length: count }, (_, index) => `${NAME}-${index}`)
    this.addresses = this.names.map((_, index) => `10.213.77.${index + 1}`)
    ip('netns', 'add', NAME)
    ip('-n', NAME, 'link', 'add', 'switch', 'type', 'bridge')
    ip('-n', NAME, 'link', 'set', 'switch', 'up')
    for (const [index, host] of this.names.entries()) {
      ip('netns', 'add', host)
      ip('-n', host, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', `port${index}`, 'netns', NAME)
      ip('-n', NAME, 'link', 'set', `port${index}`, 'master', 'switch', 'up')
      ip('-n', host, 'addr', 'add', `${this.addresses[index]}/24`, 'dev', 'eth0')
      ip('-n', host, 'link', 'set', 'eth0', 'up')
      ip('-n', host, 'link', 'set', 'lo', 'up')
    }
  }

  /** The words before a command that is to run on a host; the first is a program. */
  on(index) {
    const host = this.names[index]
    const shell = ['sh', '-c', `hostname ${host}; exec "$@"`, 'sh']
    // Unlike `ip netns exec`, this leaves the control groups in /sys, which Slurm asks for.
    return ['nsenter', `--net=/run/netns/${host}`, 'unshare', '--uts', ...shell]
  }

  /** Connects a host with the switch, or cuts it off. */
  connect(index, connected) {
    ip('-n', NAME, 'link', 'set', `port${index}`, connected ? 'up' : 'down')
  }

  /** Ends all processes on the hosts, and removes these. */
  remove() {
    for (const name of [...this.names, NAME]) {
      const { stdout } = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' })
      for (const pid of stdout?.split('\n').filter(Boolean) ?? [])
        try {
          process.kill(Number(pid), 'SIGKILL')
        } catch {
          // It has ended meanwhile.
        }
      spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' })
    }
  }
}
