/**
 * Trains by `lowrank mcp`, under the Node.js that runs this script, and prints what came as JSON.
 *
 *   node mcp.mjs LOWRANK FOLDER
 */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'

const [lowrank, folder] = process.argv.slice(2)
const args = [lowrank, 'mcp', '--allow', folder]
const client = new Client({ name: 'test', version: '1' })
await client.connect(new StdioClientTransport({ command: process.execPath, args, env: process.env }))

/** The client checks the answer against the schema that the tool has told. */
async function call(name, given) {
  const { isError, content, structuredContent } = await client.callTool({ name, arguments: given })
  if (isError) throw new Error(JSON.stringify(content))
  return structuredContent
}

const { tools } = await client.listTools()
const { job } = await call('train', {
  ...{ model: 'base', dataset: 'rows.jsonl', budget: { minutes: 10, memory: '4GiB' } },
  config: { max_seq_length: 64, per_device_train_batch_size: 2, packing: false },
})
const { state, step } = await call('status', { job, wait: 50 })
const { text } = await call('ask', { job, prompt: 'Say the number 7', max_new_tokens: 8 })
await client.close()
console.log(JSON.stringify({ tools: tools.length, state, step, text }))
