from .batch_norm import batch_norm as batch_norm
from .convolution import conv2d as conv2d
from .general import conv_general_dilated as conv_general_dilated
from .lowering import as_lax as as_lax
from .pooling import avg_pool as avg_pool
from .pooling import max_pool as max_pool
from .speed_up import speed_up as speed_up
from .transposed import conv_transpose as conv_transpose
