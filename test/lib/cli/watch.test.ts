/** `lowrank watch` and the flags of the live page; test/report/live-page.test.ts has the page in a browser. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { project } from '../../e2e/project.js'
import { scratchFolder } from '../scratch.js'
import { lowrank, send } from './lowrank.js'

function finishedRun(): string {
  const folder = join(scratchFolder(), 'orders')
  mkdirSync(folder)
  const lines = [
    { event: 'step', time: 1, step: 1, loss: 2, tokens: 10, tokens_per_second: 5 },
    { event: 'done', time: 2, output_dir: folder },
  ]
  writeFileSync(join(folder, 'metrics.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  return folder
}

test('watch serves the page of a run that is over, with its name, until it is ended', async () => {
  const folder = finishedRun()
  let page: Promise<string> | undefined
  const { stdout, code } = await lowrank(['watch', folder, '--json'], {
    watch(child, { stdout: soFar }) {
      if (page !== undefined || !soFar.endsWith('\n')) return
      const { url } = JSON.parse(soFar) as { url: string }
      page = fetch(url).then((response) => response.text())
      page.finally(() => send(child, 'SIGTERM'))
    },
  })
  expect(JSON.parse(stdout.split('\n')[0] as string)).toMatchObject({ output_dir: folder })
  expect(code).toBe(130)
  expect(await page).toContain('<title>orders · lowrank</title>')
})

test('watch of a folder of runs lists them, each with its page', async () => {
  const folder = dirname(finishedRun())
  mkdirSync(join(folder, 'data'))
  const pages: Promise<string[]>[] = []
  await lowrank(['watch', folder, '--json'], {
    watch(child, { stdout }) {
      if (pages.length > 0 || !stdout.endsWith('\n')) return
      const { url } = JSON.parse(stdout) as { url: string }
      const paths = ['/', '/run?name=orders', '/run?name=..']
      const found = Promise.all(
        paths.map(async (path) => {
          const { origin, search } = new URL(url)
          const to = new URL(path, origin)
          to.searchParams.set('token', new URLSearchParams(search).get('token') as string)
          const response = await fetch(to)
          return `${response.status} ${await response.text()}`
        }),
      )
      pages.push(found)
      found.finally(() => send(child, 'SIGTERM'))
    },
  })
  const [list, run, none] = (await pages[0]) as [string, string, string]
  expect(list).toContain('<b>1</b> run: 1 done.')
  expect(list.match(/data-run="[^"]*"/g)).toEqual(['data-run="orders"'])
  expect(run).toContain('200 <!doctype html>')
  expect(run).toContain('<title>orders · lowrank</title>')
  expect(none).toBe('404 There is no such run.\n')
})

test('watch of a folder without a run is one clear error', async () => {
  const folder = scratchFolder()
  for (const [path, why] of [
    [folder, 'neither it nor a folder in it has a metrics.jsonl'],
    [join(folder, 'nowhere'), 'it does not exist'],
  ] as const) {
    const { code, stderr } = await lowrank(['watch', path])
    expect(code).toBe(2)
    expect(stderr).toContain(`error: ${path} is not the output folder of a run: ${why}.`)
  }
})

test('a port that is in use, or flags of a page that is not served, are refused before anything is loaded', async () => {
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const { port } = taken.address() as { port: number }
  const { config } = project()
  const busy = await lowrank(['train', config, '--live', '--port', String(port)])
  expect(busy.code).toBe(1)
  expect(busy.stderr).toContain(`port ${port} is in use by another program`)
  expect(busy.stderr).not.toContain('Loading')
  taken.close()
  const { code, stderr } = await lowrank(['train', config, '--port', '8080'])
  expect(code).toBe(2)
  expect(stderr).toContain('--port is of the page that --live serves; add --live.')
})
