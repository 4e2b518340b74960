/** The identity of tokenized rows. */
import { createHash } from 'node:crypto'
import { breather } from '../../core/breather.js'
import type { EncodedDataset } from '../../data/encoded-dataset.js'

/** Content hash of rows: SHA-256 over their ids and labels, whether their answers are desirable, and their items. */
export async function fingerprintRows(data: EncodedDataset, rows?: Uint32Array): Promise<string> {
  const hash = createHash('sha256')
  const breathe = breather()
  const count = rows?.length ?? data.length
  for (let i = 0; i < count; i++) {
    const row = rows ? (rows[i] as number) : i
    hash.update(data.ids(row)).update(data.labels(row))
    const desirable = data.rowDesirable(row)
    if (desirable !== undefined) hash.update(String(desirable))
    const item = data.rowItem(row)
    if (item !== '') hash.update(item)
    if (i % 16 === 0) await breathe()
  }
  return hash.digest('hex')
}
