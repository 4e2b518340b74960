import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ggufFormOf, graphOf, openModelFiles } from '../../../lib/models/index.js'
import { openGgufAdapter } from '../../../lib/peft/gguf-adapter.js'
import { linearSites } from '../../../lib/strategies/describe.js'
import { ggufBytes, value } from '../formats/gguf-bytes.js'
import { scratchFile } from '../scratch.js'

test('an adapter of the head in a GGUF file is refused by its name', async () => {
  const graph = graphOf((await openModelFiles(join(__dirname, '../../parity/models/llama3'))).config)
  const path = scratchFile(
    'adapter.gguf',
    ggufBytes({
      keys: [
        ['general.type', value.string('adapter')],
        ['adapter.type', value.string('lora')],
        ['general.architecture', value.string('llama')],
        ['adapter.lora.alpha', value.number('f32', 8)],
      ],
      tensors: [
        { name: 'output.weight.lora_a', dims: [64, 4] },
        { name: 'output.weight.lora_b', dims: [4, 256] },
      ],
    }),
  )
  const error = await openGgufAdapter(path, graph, linearSites(graph), ggufFormOf('llama')).catch((e) => e)
  expect(error).toMatchObject({ code: 'UNSUPPORTED', details: { tensor: 'output.weight.lora_a' } })
  expect(error.message).toMatch(
    /adapts the head \("output\.weight\.lora_a"\), but adapters of the head are not supported.* without lm_head/,
  )
})
