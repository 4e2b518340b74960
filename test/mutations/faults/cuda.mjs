import { fault } from './fault.mjs'

const cuda = (file) => `native/backends/cuda/${file}`
/** One that a native test catches, on the kernels that run as C++ or on the stand-in driver. */
const caught = (file, title, find, replace, what) =>
  fault(cuda(file), 'test/native/emulated.test.ts', find, replace, what, { title })

const weighted = "CUDA's cross_entropy with weights of rows"
const tiles = "CUDA's tiles of products equal float64"
const kernels = [
  caught(
    'cross_entropy.cu',
    "CUDA's cross_entropy and its gradient equal float64",
    '__syncthreads();  // the gradients of this piece',
    '// the gradients of this piece',
    'gradients replace logits that other threads have not read',
  ),
  caught(
    'cross_entropy.cu',
    "CUDA's cross_entropy reaches logits beyond",
    'args.logits + row * args.logits_ld;\n  T* const',
    'args.logits + static_cast<int32_t>(row * args.logits_ld);\n  T* const',
    'logits are addressed by 32 bits',
  ),
  caught(
    'cross_entropy.cu',
    weighted,
    'args.weights ? args.weights[row] :',
    'args.weights ? args.weights[0] :',
    'all rows have the weight of the first',
  ),
  caught(
    'cross_entropy.cu',
    weighted,
    '* factor - each;',
    '* factor;',
    'the share of smoothing is that of the label alone',
  ),
  caught(
    'cross_entropy.cu',
    weighted,
    'pack.at[i] * row.scale',
    'pack.at[i]',
    'logits are not divided by the temperature',
  ),
  caught(
    'elementwise.cu',
    "CUDA's noise on embeddings",
    'args.first_row + spot.row',
    'spot.row',
    'each sequence has the noise of the first',
  ),
  caught(
    'gemm_tile.cuh',
    tiles,
    'if (row >= args.m || column >= args.n) return;',
    'if (row > args.m || column >= args.n) return;',
    'a product stores one row too many',
  ),
  caught(
    'gemm_tile.cuh',
    tiles,
    '    cp_async_wait<T::kStages - 2>();\n',
    '',
    'a product does not wait for its copies to shared memory',
  ),
  caught(
    'gemm_tile.cuh',
    tiles,
    'b0[2] = {b[0], b[1]}',
    'b0[2] = {b[1], b[0]}',
    'matrix units are given the halves of an operand in the wrong order',
  ),
  caught(
    'gemm_tile.cuh',
    tiles,
    'const int w_row = T::kWTransposed ? lane & 15 :',
    'const int w_row = T::kWTransposed ? (lane & 7) + (lane >> 4) * 8 :',
    'rows of a transposed operand change places',
  ),
  caught(
    'product.cu',
    'CUDA multiplies by a Kronecker product',
    'LOWRANK_SHARED_ALIGNED(16, float, left,',
    'LOWRANK_SHARED(float, left,',
    'an array that is read 16 bytes at a time is aligned to 4',
  ),
  caught(
    'rows_by_id.cu',
    'CUDA adds rows and columns of repeated ids',
    '        body(begin + warp * 32 + __popc((left & (0 - left)) - 1));\n    __syncthreads();',
    '        body(begin + warp * 32 + __popc((left & (0 - left)) - 1));',
    'a list in shared memory is replaced while others read it',
  ),
]

const putAway = 'what was put away comes back as it was'
const goesBack = 'memory goes back only once'
const driver = [
  caught(
    'stash.cpp',
    putAway,
    '  gpu.order(Lane::out, Lane::kernels);\n',
    '',
    'activations are put away before they are computed',
  ),
  caught(
    'stash.cpp',
    'a fetch waits for the put of the same bytes',
    '  each(offset, bytes, true, [](const Gpu::Mark& put) { put.hold_back(Lane::in); });\n',
    '',
    'activations come back before they are put away',
  ),
  caught(
    'stash.cpp',
    goesBack,
    '  memory_.gpu().settle();\n',
    '',
    'pinned memory is freed while copies use it',
  ),
  caught(
    'memory.cpp',
    goesBack,
    '    memory_.gpu().settle();\n    memory_.gpu().driver().cuMemFree_v2(at_);',
    '    memory_.gpu().driver().cuMemFree_v2(at_);',
    'memory of the card is freed while kernels use it',
  ),
  caught(
    'transfers.cpp',
    putAway,
    'if (each.lane != lane) each.end->hold_back(lane);',
    '',
    'kernels do not wait for what comes back',
  ),
  caught(
    'device.cpp',
    'on CUDA: LoRA with dropout',
    '  if (!memory_.transfers().empty()) memory_.transfers().order(kernel, span_of(workspace, sizes_.workspace(kernel)));\n',
    '',
    'kernels and copies beside them are in no order',
  ),
  caught(
    'memory.cpp',
    'uploads keep the host',
    'ring_->ends[ring_->slot]->wait();',
    '',
    'an upload takes room that an earlier one is still copied from',
  ),
  caught(
    'gpu.h',
    'launches that come again are a graph',
    '    queue_waiting();\n',
    '',
    'work that is queued overtakes launches that wait',
  ),
  caught(
    'launches.h',
    'launches that come again are a graph',
    'std::memcmp(args_.data(), other.args_.data(), args_.size() * sizeof(Unit)) == 0',
    'true',
    'a graph is launched for other arguments',
  ),
  caught(
    'attention_decode.cu',
    'tokens that are decoded by graphs',
    'const int splits = decoded_splits((args.positions ? args.positions[0] : args.past) + args.tokens);',
    'const int splits = decoded_splits(args.past + args.tokens);',
    'keys that the card counts are those of the host',
  ),
  caught(
    'gpu.cpp',
    'every call of the driver that fails, at any use',
    '  for (const CUevent event : spare_events_) driver_->cuEventDestroy_v2(event);\n',
    '',
    'events are not given back',
  ),
]

const beside = [
  caught(
    'products.cpp',
    'cuBLASLt takes gradients that lie beside each other',
    '    at += p.depth(*s);\n',
    '',
    'factors of segments beside each other are decoded to the same place',
  ),
  caught(
    'products.cpp',
    'cuBLASLt takes gradients that lie beside each other',
    'return large > 1 || (large == 1 && !lies_ready);',
    'return large > 1;',
    'a small segment beside a large one is added apart',
  ),
  caught(
    'products.cpp',
    'cuBLASLt takes what lies beside the input',
    'w.cols, out.columns(at));',
    'w.cols, out);',
    'the factor of what lies beside x is decoded over that of x',
  ),
  caught(
    'multiply.cpp',
    'cuBLASLt serves large products',
    'lies_ready = rows_aligned(addend, 16) && ',
    'lies_ready = false && ',
    'a residual is copied before the library adds to it',
  ),
  caught(
    'cublaslt.cpp',
    'cuBLASLt serves large products',
    'layout(plan->c, p.addend.data ? p.addend : p.y,',
    'layout(plan->c, p.y,',
    'rows of what the library adds are as far apart as those of the result',
  ),
  fault(
    'native/adapters/term.cpp',
    'test/native/native.test.ts',
    'if (tail >= 0 && kept >= 0) run',
    'if (false) run',
    'what lies beside x is not kept for the backward pass',
    { title: 'beside each other' },
  ),
  fault(
    'native/plan/run.h',
    'test/native/native.test.ts',
    'b.within < 0 ? b.cols : plan.buffers[b.within].cols',
    'b.cols',
    'rows of a buffer within another follow each other',
    { title: 'beside each other' },
  ),
  fault(
    'native/plan/buffers.cpp',
    'test/native/native.test.ts',
    '    outer.last = std::max(outer.last, inner.last);\n',
    '',
    'a buffer ends before what lies within it',
    { title: 'gradients of linears that share an input lie beside each other' },
  ),
  fault(
    'native/backends/cuda/products.cpp',
    'test/native/emulated.test.ts',
    'if (g.depth > g.first_depth) launcher.zero',
    'if (false) launcher.zero',
    "an output takes the hidden values of other linears' adapters",
    { title: 'cuBLASLt takes linears that read one value as one product' },
  ),
  fault(
    'native/backends/cuda/products.cpp',
    'test/native/emulated.test.ts',
    'factor.rows(from - first));\n      begin += each.n;',
    'factor.rows(from - first));\n      begin += count;',
    'factors of linears that read one value are decoded over each other',
    { title: 'cuBLASLt takes linears that read one value as one product' },
  ),
  fault(
    'native/backends/cuda/products.cpp',
    'test/native/emulated.test.ts',
    'return {outputs, std::min(bytes_of(n), room)};',
    'return {outputs, bytes_of(outputs)};',
    'a product with fewer ranks may need more workspace than planned',
    { title: 'linears that read one value need no more workspace with fewer ranks' },
  ),
  fault(
    'native/ops/linear.cpp',
    'test/native/native.test.ts',
    'return !drops_base(site) &&',
    'return site.scaled == nullptr &&',
    'linears with magnitudes are multiplied one by one',
    { title: 'linears that share an input are one step' },
  ),
  fault(
    'native/ops/linear.cpp',
    'test/native/native.test.ts',
    '    if (!products.empty()) product.hidden = products.back().hidden;\n',
    '',
    'hidden values of linears that read one value lie over each other',
    { title: 'beside each other' },
  ),
]

const checks = [
  fault(
    'native/runtime/check.cpp',
    'test/lib/native/check.test.ts',
    'if (!known) save(',
    'save(',
    'outputs that a step names twice are compared with what was there before',
    { title: 'finds the kernels of the CPU' },
  ),
]

export const cudaFaults = [...kernels, ...driver, ...beside, ...checks]
