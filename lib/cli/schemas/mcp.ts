/** Output of `lowrank mcp`: messages of the protocol. */
import * as z from 'zod'

export const printed = z
  .looseObject({ jsonrpc: z.literal('2.0') })
  .describe('A message of the Model Context Protocol')
