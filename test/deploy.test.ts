/** What deploy/ says about the server against the code, and its parts against each other. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { packageVersion } from '../lib/core/root.js'
import { lowrank } from './lib/cli/lowrank.js'

const read = (name: string) =>
  readFileSync(join(fileURLToPath(new URL('../deploy', import.meta.url)), name), 'utf8')
const dockerfile = read('Dockerfile')
const unit = read('lowrank.service')
const compose = parse(read('compose.yaml')) as {
  services: Record<
    string,
    { command: string[]; ports: string[]; secrets: string[]; volumes: string[]; stop_grace_period: string }
  >
  volumes: Record<string, unknown>
  secrets: Record<string, { file: string }>
}
const service = compose.services.lowrank as (typeof compose.services)[string]

/** The words of an instruction that is a list in JSON. */
const words = (name: string) =>
  JSON.parse(new RegExp(`^${name} .*?(\\[.*\\])$`, 'm').exec(dockerfile)?.[1] ?? '') as string[]
const settings = (name: string) =>
  [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value]) => value)
const start = settings('ExecStart')[0]?.split(' ') ?? []
const flagsIn = (list: readonly string[]) => list.flatMap((word) => /^--[a-z-]+/.exec(word) ?? [])
const given = (list: readonly string[], flag: string) => {
  const at = list.findIndex((word) => word === flag || word.startsWith(`${flag}=`))
  return list[at]?.includes('=') ? list[at]?.slice(flag.length + 1) : list[at + 1]
}
const seconds = (text = '') => Number.parseInt(text, 10) * (/m(in)?$/.test(text) ? 60 : 1)

let known: string[]
beforeAll(async () => {
  const { stdout } = await lowrank(['serve', '--help'])
  known = [...stdout.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, flag = '']) => flag)
})

test('every flag is one of the server', () => {
  expect(known.length).toBeGreaterThan(10)
  const container = [...words('ENTRYPOINT'), ...service.command]
  for (const list of [container, start]) {
    expect(flagsIn(list).length).toBeGreaterThan(5)
    expect(flagsIn(list).filter((flag) => !known.includes(flag))).toEqual([])
    expect(list.join(' ')).toMatch(/\blowrank serve\b/)
  }
})

test('the image installs the version of the package, on its port', () => {
  expect(dockerfile).toContain(`ARG LOWRANK=lowrank@${packageVersion()}\n`)
  expect(dockerfile).toContain(`./lowrank-${packageVersion()}.tgz`)
  const port = given(words('ENTRYPOINT'), '--port')
  expect(dockerfile).toContain(`\nEXPOSE ${port}\n`)
  expect(words('HEALTHCHECK').at(-1)).toContain(`http://127.0.0.1:${port}/health`)
  expect(service.ports).toEqual([`127.0.0.1:${port}:${port}`])
  expect(dockerfile).toContain(`\nVOLUME ${given(words('ENTRYPOINT'), '--data')}\n`)
})

test('Compose gives the secrets and folders that the command names', () => {
  const [secret = ''] = service.secrets
  expect(given(service.command, '--token-file')).toBe(`/run/secrets/${secret}`)
  expect(compose.secrets[secret]?.file).toBe('./key')
  const mounts = service.volumes.map((text) => text.split(':'))
  expect(mounts.map(([, inside]) => inside)).toEqual(['/data', '/models'])
  expect(given(service.command, '--model')).toMatch(/^\/models\//)
  expect(Object.keys(compose.volumes)).toEqual([mounts[0]?.[0]])
})

describe('a stop', () => {
  test('may take longer than the server waits for answers', () => {
    for (const [list, most] of [
      [service.command, service.stop_grace_period],
      [start, settings('TimeoutStopSec')[0]],
    ] as const)
      expect(seconds(most)).toBeGreaterThan(2 * seconds(given(list, '--stop-timeout')))
  })

  test('is told to the server, and not to the processes that it answers by', () => {
    expect(settings('KillMode')).toEqual(['mixed'])
    expect(words('ENTRYPOINT')[0]).toBe('lowrank')
  })
})

test('the unit may do little', () => {
  for (const yes of ['DynamicUser', 'NoNewPrivileges', 'ProtectHome', 'PrivateTmp', 'RestrictNamespaces'])
    expect([yes, settings(yes)]).toEqual([yes, ['yes']])
  expect(settings('CapabilityBoundingSet')).toEqual([''])
  expect(settings('ProtectSystem')).toEqual(['strict'])
  expect(settings('LoadCredential')).toEqual(['key:/etc/lowrank/key'])
  expect(existsSync(fileURLToPath(new URL('../deploy/key', import.meta.url)))).toBe(false)
})
