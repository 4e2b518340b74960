/** The workflows of .github, which run on machines that this one is not: what they name exists. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { TARGETS } from '../scripts/targets.mjs'

interface Step {
  uses?: string
  run?: string
  with?: Record<string, string>
}

interface Job {
  needs?: string | string[]
  'runs-on': string
  strategy?: { matrix: { include: Record<string, string>[] } }
  steps: Step[]
}

const folder = '.github/workflows'
const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }

describe.each(readdirSync(folder))('%s', (name) => {
  const text = readFileSync(`${folder}/${name}`, 'utf8')
  const { jobs } = parse(text, { strict: true }) as { jobs: Record<string, Job> }
  const steps = Object.values(jobs).flatMap((job) => job.steps)

  test('says that it was not run', () => {
    expect(text).toContain('No run of this file has been seen.')
  })

  test('runs npm scripts that exist', () => {
    const run = steps.flatMap((step) =>
      [...(step.run ?? '').matchAll(/npm run ([\w:-]+)/g)].map(([, word]) => word),
    )
    expect(run.length).toBeGreaterThan(4)
    expect(run.filter((word) => !(word && word in scripts))).toEqual([])
  })

  test('waits for jobs that exist, and takes artifacts that are kept', () => {
    for (const job of Object.values(jobs))
      for (const need of [job.needs ?? []].flat()) expect(Object.keys(jobs)).toContain(need)
    const named = (action: string) =>
      steps
        .filter(({ uses }) => uses?.startsWith(`actions/${action}-artifact@`))
        .map((step) => step.with?.name)
    for (const artifact of named('download')) expect(named('upload')).toContain(artifact)
  })

  test('has in every step an action or a command, and in every job a checkout before the first script', () => {
    for (const step of steps) expect(Number('uses' in step) + Number('run' in step)).toBe(1)
    for (const job of Object.values(jobs)) {
      const checkout = job.steps.findIndex(({ uses }) => uses?.startsWith('actions/checkout@'))
      const script = job.steps.findIndex(({ run }) => run?.startsWith('npm '))
      expect(checkout).toBeGreaterThanOrEqual(0)
      expect(checkout).toBeLessThan(script)
    }
  })
})

test('a release finds the addons and the CUDA kernels that it asks for', () => {
  const { jobs } = parse(readFileSync(`${folder}/ci.yml`, 'utf8')) as { jobs: Record<string, Job> }
  const run = jobs.prebuilds?.steps.map((step) => step.run) ?? []
  expect(run).toEqual(
    expect.arrayContaining(['npm run build:prebuilds -- --target all', 'npm run cuda:pack']),
  )
})

test('the tests run on every platform that has a prebuilt addon and a machine to run on', () => {
  const { jobs } = parse(readFileSync(`${folder}/ci.yml`, 'utf8')) as { jobs: Record<string, Job> }
  const tested = jobs.tests?.strategy?.matrix.include.map(({ target }) => target) ?? []
  // Actions do not run in containers of Alpine for arm64.
  expect(tested.toSorted()).toEqual(
    Object.keys(TARGETS)
      .filter((name) => name !== 'linux-arm64-musl')
      .toSorted(),
  )
})
