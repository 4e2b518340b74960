/** Every file of a model or adapter folder obeys one rule about links, and none of another place is quoted. */
import { cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { writeModelFolder } from '../../../lib/base/model-folder.js'
import { openModelFiles } from '../../../lib/models/index.js'
import { readAdapterFolder } from '../../../lib/peft/adapter-folder.js'
import { planModel } from '../../../lib/planning/plan.js'
import { lora } from '../../../lib/strategies/lora.js'
import { tokenizerSourceFromFolder } from '../../../lib/tokenizer/folder.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { symbolicLink } from '../../needs.js'
import { scratchFile, scratchFolder } from '../scratch.js'

const SECRET = 'root:x:0:0:secret'

/** Puts a link to a file of another place where a file of the folder was, or would be. */
function leadOut(folder: string, name: string): void {
  const path = join(folder, name)
  rmSync(path, { force: true, recursive: true })
  mkdirSync(dirname(path), { recursive: true })
  symbolicLink(scratchFile('passwd', SECRET), path)
}

async function refused(work: Promise<unknown>, name: string): Promise<void> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({ code: 'FILE_FORMAT' })
  expect((error as Error).message).toContain(`${name} is a link out of its folder`)
  expect(JSON.stringify([error, (error as Error).message, String((error as Error).cause)])).not.toContain(
    'secret',
  )
}

test.each([
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'config.json',
  'chat_template.jinja',
  'additional_chat_templates/tool_use.jinja',
])('a tokenizer whose %s leads out of the folder is refused', async (name) => {
  const folder = tinyModel()
  leadOut(folder, name)
  await refused(tokenizerSourceFromFolder(folder), name)
})

test('a folder of chat templates that leads out is refused', async () => {
  const folder = tinyModel()
  const outside = scratchFolder()
  writeFileSync(join(outside, 'tool_use.jinja'), SECRET)
  symbolicLink(outside, join(folder, 'additional_chat_templates'))
  await refused(tokenizerSourceFromFolder(folder), 'additional_chat_templates')
})

test.each(['config.json', 'model.safetensors'])(
  'a model whose %s leads out of the folder is refused',
  async (name) => {
    const folder = tinyModel()
    leadOut(folder, name)
    await refused(openModelFiles(folder), name)
  },
)

test('a plan of a folder without weights reads no other file', async () => {
  const folder = scratchFolder()
  leadOut(folder, 'config.json')
  await refused(planModel(folder, { strategy: lora() }), 'config.json')
})

test.each(['LICENSE', 'generation_config.json', 'config.json'])(
  'what is copied beside a model is of its folder: %s',
  async (name) => {
    const folder = tinyModel()
    const files = await openModelFiles(folder)
    leadOut(folder, name)
    await refused(writeModelFolder(join(scratchFolder(), 'out'), files, []), name)
  },
)

test.each(['adapter_config.json', 'adapter_model.safetensors', 'lowrank.json'])(
  'an adapter whose %s leads out of the folder is refused',
  async (name) => {
    const folder = join(scratchFolder(), 'adapter')
    cpSync(fileURLToPath(new URL('../../parity/written/dora/adapter', import.meta.url)), folder, {
      recursive: true,
    })
    leadOut(folder, name)
    await refused(readAdapterFolder(folder), name)
  },
)

test('snapshots of the download cache, whose files are links to its blobs, are read', async () => {
  const repo = join(scratchFolder(), 'models--me--tiny')
  const snapshot = join(repo, 'snapshots', 'abc')
  mkdirSync(join(repo, 'blobs'), { recursive: true })
  cpSync(tinyModel(), snapshot, { recursive: true })
  for (const name of ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']) {
    renameSync(join(snapshot, name), join(repo, 'blobs', name))
    symbolicLink(`../../blobs/${name}`, join(snapshot, name))
  }
  expect(existsSync(join(snapshot, 'tokenizer.json'))).toBe(true)
  expect((await openModelFiles(snapshot)).tensors.size).toBeGreaterThan(0)
  expect((await tokenizerSourceFromFolder(snapshot)).chatTemplate).toContain('im_start')
})

test('so are folders of a snapshot, but no links of theirs to other places', async () => {
  const repo = join(scratchFolder(), 'models--me--tiny')
  const adapter = join(repo, 'snapshots', 'abc', 'checkpoint-100')
  mkdirSync(join(repo, 'blobs'), { recursive: true })
  cpSync(fileURLToPath(new URL('../../parity/written/dora/adapter', import.meta.url)), adapter, {
    recursive: true,
  })
  renameSync(join(adapter, 'adapter_config.json'), join(repo, 'blobs', '1234'))
  symbolicLink('../../../blobs/1234', join(adapter, 'adapter_config.json'))
  expect((await readAdapterFolder(adapter)).config.strategy.name).toBe('dora')
  leadOut(adapter, 'adapter_config.json')
  await refused(readAdapterFolder(adapter), 'adapter_config.json')
})
