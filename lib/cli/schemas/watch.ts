/** Output of `lowrank watch --json`. */
import * as z from 'zod'

export const printed = z.object({
  url: z.string().describe('URL of the page, with its token'),
  output_dir: z.string(),
})
