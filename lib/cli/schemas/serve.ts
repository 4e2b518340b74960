/** Output of `lowrank serve --json`. */
import * as z from 'zod'

export const printed = z.object({
  url: z.string().describe('Base URL for clients'),
  token: z.string().describe('API key for clients'),
  page: z.string().describe('Address of the page, with the key in its fragment'),
  models: z.array(z.string()),
  data: z.string().describe('Folder of files and jobs'),
})
